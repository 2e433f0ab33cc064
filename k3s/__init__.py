"""How Kubernetes is spoken: values and rendering, and later connect, apply, watch."""
