"""Every change of desired state goes through here, with the rights of who asks."""
