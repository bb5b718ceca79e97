"""Starting a run on many hosts: processes of this machine (`local`)."""
