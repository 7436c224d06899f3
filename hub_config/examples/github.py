"""Log in with GitHub: members of an organisation, its teams as groups. Copy it to DATA/jupyterhub_config.py."""

import os

c = get_config()  # noqa: F821

c.JupyterHub.authenticator_class = "mlmp_spawner.logins.oauth.GitHubLogin"
c.GitHubLogin.oauth_callback_url = "https://mlmp.example.org/hub/oauth_callback"
# Secrets come from the environment, not from a file that is copied about.
c.GitHubLogin.client_id = os.environ["GITHUB_CLIENT_ID"]
c.GitHubLogin.client_secret = os.environ["GITHUB_CLIENT_SECRET"]

# Who is let in: an organisation, or single teams of it as "our-lab:students". Nobody else.
c.GitHubLogin.allowed_organizations = {"our-lab"}
# Who runs the machines: people, or the members of a team.
c.Authenticator.admin_users = {"ada"}
c.GitHubLogin.admin_groups = {"our-lab:admins"}
# Each team is a group of the hub, our-lab:students. Catalog, limits and this role name these groups.
c.JupyterHub.load_roles.append(
    {"name": "instructors", "groups": ["our-lab:teachers"], "scopes": ["custom:mlmp:courses"]}
)
