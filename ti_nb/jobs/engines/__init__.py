"""Where jobs are done: processes of this machine, actors of a Ray cluster, and what each of them does."""
