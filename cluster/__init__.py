"""Where workers come from. Opens what it is asked for and closes only what it opened; never imports ``pipeline``."""
