"""What several passes share; not passes themselves."""
