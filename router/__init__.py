"""Points domains at instances. Knows nothing of services, versions or stores."""
