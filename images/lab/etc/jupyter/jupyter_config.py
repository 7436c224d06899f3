# SQLite and NFS do not go together: locks hang, files break. Which notebooks are trusted is known as long as the
# server lasts. Who has a home on a local disk may say otherwise in ~/.jupyter/jupyter_config.py.
c = get_config()  # noqa: F821
c.NotebookNotary.db_file = "/tmp/notebook-signatures.sqlite"  # noqa: S108 -- in a container
