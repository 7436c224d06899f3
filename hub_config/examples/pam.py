"""Users of the machine, with `mlmp up --auth pam`: their groups count. Copy it to DATA/jupyterhub_config.py."""

c = get_config()  # noqa: F821

c.JupyterHub.authenticator_class = "mlmp_spawner.logins.pam.PAMLogin"  # as `mlmp up --auth pam` does
# The groups of the system become the groups of the hub. Catalog, limits and the role below name these groups.
c.PAMLogin.manage_groups = True
# Who is let in; `mlmp up --allowed-group` says the same, and `--admin-group` who runs the machines.
c.PAMLogin.allowed_groups = {"gpu-users"}
c.PAMLogin.service = "login"  # of /etc/pam.d
# What a group may do besides: its members run courses.
c.JupyterHub.load_roles.append(
    {"name": "instructors", "groups": ["gpu-instructors"], "scopes": ["custom:mlmp:courses"]}
)
