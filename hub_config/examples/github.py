"""Log in with GitHub: members of an organisation, its teams as groups. Copy it to DATA/jupyterhub_config.py."""

import os

c = get_config()  # noqa: F821

c.JupyterHub.authenticator_class = "github"
c.GitHubOAuthenticator.oauth_callback_url = "https://mlmp.example.org/hub/oauth_callback"
# Secrets come from the environment, not from a file that is copied about.
c.GitHubOAuthenticator.client_id = os.environ["GITHUB_CLIENT_ID"]
c.GitHubOAuthenticator.client_secret = os.environ["GITHUB_CLIENT_SECRET"]

# Who is let in: an organisation, or single teams of it as "our-lab:students". Nobody else.
c.GitHubOAuthenticator.allowed_organizations = {"our-lab"}
c.GitHubOAuthenticator.scope = ["read:org"]
c.Authenticator.admin_users = {"ada"}

# Each team becomes a group of the hub, our-lab:students, at every login. Catalog and limits name these groups.
c.GitHubOAuthenticator.populate_teams_in_auth_state = True
c.GitHubOAuthenticator.manage_groups = True
c.GitHubOAuthenticator.auth_state_groups_key = lambda auth_state: {
    f"{team['organization']['login']}:{team['slug']}" for team in auth_state["teams"]
}
# What was learnt at the login is kept encrypted: JUPYTERHUB_CRYPT_KEY=$(openssl rand -hex 32).
c.Authenticator.enable_auth_state = True
