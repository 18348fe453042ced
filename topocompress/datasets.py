"""Where :mod:`topocompress.activation.point_sets` was found in version 0.1."""

from topocompress.activation.point_sets import KnownTopology, annuli, linked_tori, naitzat, nested_spheres, nine_discs

__all__ = ["KnownTopology", "annuli", "linked_tori", "naitzat", "nested_spheres", "nine_discs"]
