"""Models by name and on disk: registries, descriptions and folders, which know no architecture."""
