# SQLite and NFS do not go together: locks hang, files break. The history lasts as long as the server does. Who has a
# home on a local disk may say otherwise in ~/.ipython/profile_default/ipython_config.py.
c = get_config()  # noqa: F821
c.HistoryManager.hist_file = "/tmp/ipython-history.sqlite"  # noqa: S108 -- in a container
