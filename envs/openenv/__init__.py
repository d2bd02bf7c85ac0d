"""OpenEnv, the protocol by which trainers such as TRL reach environments: our worlds served, and others' played."""
