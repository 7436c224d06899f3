"""Log in with a directory: OpenLDAP, Active Directory. Copy it to DATA/jupyterhub_config.py."""

c = get_config()  # noqa: F821

c.JupyterHub.authenticator_class = "mlmp_spawner.logins.ldap.LDAPLogin"
# TLS is on (StartTLS at port 389), and the certificate is checked against what this machine trusts.
c.LDAPLogin.server_address = "ldap.example.org"
# An account that may look people up, whose password is in the environment as LDAP_PASSWORD, not in a file that is
# copied about. Without one it is done anonymously, where the directory allows that.
c.LDAPLogin.lookup_dn_search_user = "cn=mlmp,ou=services,dc=example,dc=org"

# Where people are, and the attribute that holds the name they type: "sAMAccountName" in Active Directory.
c.LDAPLogin.user_search_base = "ou=people,dc=example,dc=org"
c.LDAPLogin.user_attribute = "uid"
# Who counts: whom the directory locks or disables does not exist. In Active Directory:
# "(!(userAccountControl:1.2.840.113556.1.4.803:=2))"
c.LDAPLogin.search_filter = "(!(pwdAccountLockedTime=*))"

# The groups below this entry become the groups of the hub. Catalog, limits and the role below name these groups.
c.LDAPLogin.group_search_base = "ou=groups,dc=example,dc=org"
# Who is let in, and who runs the machines. Nobody else.
c.LDAPLogin.allowed_groups = {"gpu-users"}
c.LDAPLogin.admin_groups = {"gpu-admins"}
# What a group may do besides: its members run courses.
c.JupyterHub.load_roles.append(
    {"name": "instructors", "groups": ["gpu-instructors"], "scopes": ["custom:mlmp:courses"]}
)
