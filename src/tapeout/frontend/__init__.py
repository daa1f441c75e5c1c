"""Front ends: models of other frameworks become graphs."""
