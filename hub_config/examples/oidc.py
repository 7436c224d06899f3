"""Log in with OpenID Connect: Keycloak, Entra ID, Shibboleth's OIDC … Copy it to DATA/jupyterhub_config.py."""

import os

c = get_config()  # noqa: F821

# Your provider's addresses are in ISSUER/.well-known/openid-configuration.
ISSUER = "https://login.example.org/realms/uni/protocol/openid-connect"

c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.login_service = "the university"
c.GenericOAuthenticator.oauth_callback_url = "https://mlmp.example.org/hub/oauth_callback"
# Secrets come from the environment, not from a file that is copied about.
c.GenericOAuthenticator.client_id = os.environ["OIDC_CLIENT_ID"]
c.GenericOAuthenticator.client_secret = os.environ["OIDC_CLIENT_SECRET"]
c.GenericOAuthenticator.authorize_url = f"{ISSUER}/auth"
c.GenericOAuthenticator.token_url = f"{ISSUER}/token"
c.GenericOAuthenticator.userdata_url = f"{ISSUER}/userinfo"
c.GenericOAuthenticator.scope = ["openid", "profile", "groups"]
# The name under which people book: it must be unique and stay the same.
c.GenericOAuthenticator.username_claim = "preferred_username"

# The claim "groups" becomes the groups of the hub, at every login. Catalog and limits name these groups.
c.GenericOAuthenticator.manage_groups = True
c.GenericOAuthenticator.auth_state_groups_key = "oauth_user.groups"
# What was learnt at the login is kept encrypted: JUPYTERHUB_CRYPT_KEY=$(openssl rand -hex 32).
c.Authenticator.enable_auth_state = True

# Who is let in, and who runs the machines. Nobody else.
c.GenericOAuthenticator.allowed_groups = {"gpu-users"}
c.GenericOAuthenticator.admin_groups = {"gpu-admins"}
