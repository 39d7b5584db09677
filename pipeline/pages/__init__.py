"""Pages of HTML that need nothing beside them: no network, no second file."""
