"""Log in with OpenID Connect: Keycloak, Entra ID, Shibboleth's OIDC … Copy it to DATA/jupyterhub_config.py."""

import os

c = get_config()  # noqa: F821

# Your provider's addresses are in ISSUER/.well-known/openid-configuration.
ISSUER = "https://login.example.org/realms/uni/protocol/openid-connect"

c.JupyterHub.authenticator_class = "mlmp_spawner.logins.oauth.OIDCLogin"
c.OIDCLogin.login_service = "the university"
c.OIDCLogin.oauth_callback_url = "https://mlmp.example.org/hub/oauth_callback"
# Secrets come from the environment, not from a file that is copied about.
c.OIDCLogin.client_id = os.environ["OIDC_CLIENT_ID"]
c.OIDCLogin.client_secret = os.environ["OIDC_CLIENT_SECRET"]
c.OIDCLogin.authorize_url = f"{ISSUER}/auth"
c.OIDCLogin.token_url = f"{ISSUER}/token"
c.OIDCLogin.userdata_url = f"{ISSUER}/userinfo"
# offline_access: so that MLMP can ask about people for longer than their visit at the provider lasts.
c.OIDCLogin.scope = ["openid", "profile", "groups", "offline_access"]
c.OIDCLogin.extra_authorize_params = {"prompt": "consent"}  # what some providers want for offline_access
# The name under which people book: it must be unique and stay the same.
c.OIDCLogin.username_claim = "preferred_username"

# The claim "groups" becomes the groups of the hub. Catalog, limits and the role below name these groups.
c.OIDCLogin.auth_state_groups_key = "oauth_user.groups"
# Who is let in, and who runs the machines. Nobody else.
c.OIDCLogin.allowed_groups = {"gpu-users"}
c.OIDCLogin.admin_groups = {"gpu-admins"}
# What a group may do besides: its members run courses.
c.JupyterHub.load_roles.append(
    {"name": "instructors", "groups": ["gpu-instructors"], "scopes": ["custom:mlmp:courses"]}
)
