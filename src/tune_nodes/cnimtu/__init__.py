"""The CNI's MTU where it is kept in the Kubernetes API, and the pods that still have another one."""
