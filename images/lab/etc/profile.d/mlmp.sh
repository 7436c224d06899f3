# /etc/profile has just set PATH anew: a login shell shall find the same programs as JupyterLab.
PATH="/opt/mlmp/bin:$HOME/.local/bin:$PATH"
export PATH
