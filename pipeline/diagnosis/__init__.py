"""What is wrong with a cluster, and how to mend it: asked before anything is paid for."""
