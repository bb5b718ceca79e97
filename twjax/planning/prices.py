"""What TPUs cost an hour: a small dated table of list prices, or the user's own price."""

from __future__ import annotations

import dataclasses

from twjax.planning.topology import Topology

# US dollars a chip-hour, on demand and spot, by region. On-demand prices rarely change; spot prices
# may every 30 days. From https://github.com/skypilot-org/skypilot-catalog, catalogs/v8/gcp/vms.csv
# at commit 006059e, which is made from Google's Cloud Billing catalogue; Google's own page is
# https://cloud.google.com/tpu/pricing. TPU7x isn't in it.
DATE = "2026-11-24"
SOURCE = "SkyPilot's copy of Google's billing catalogue"
PRICES: dict[str, dict[str, tuple[float, float | None]]] = {
    "v4": {"us-central2": (3.22, 0.9215)},
    "v5e": {
        "asia-east1": (1.38948, 0.55579),
        "asia-northeast1": (1.54104, 0.4244),
        "asia-southeast1": (1.56, 0.78),
        "europe-north1": (1.32132, 0.66066),
        "europe-west1": (1.32132, 0.52853),
        "europe-west3": (1.416, 0.38997),
        "europe-west4": (1.56, 0.44498),
        "northamerica-northeast1": (1.32132, 0.36389),
        "southamerica-west1": (1.716, 0.47259),
        "us-central1": (1.2, 0.24493),
        "us-east1": (1.2, 0.24493),
        "us-east4": (1.2, 0.6),
        "us-east5": (1.2, 0.6),
        "us-south1": (1.416, 0.5664),
        "us-west1": (1.2, 0.24493),
        "us-west4": (1.2, 0.48),
    },
    "v5p": {
        "europe-west1": (4.45946, 1.78378),
        "europe-west4": (4.2525, 1.34849),
        "us-central1": (4.2, 0.8357),
        "us-east1": (4.2, 0.8357),
        "us-east5": (4.2, 1.68),
        "us-south1": (4.779, 1.31614),
    },
    "v6e": {
        "asia-northeast1": (3.24, 0.94352),
        "asia-south1": (3.24, 2.27),
        "asia-southeast1": (2.97, 0.36292),
        "europe-west4": (2.97, 1.03748),
        "southamerica-west1": (2.7, None),
        "us-central1": (2.7, 0.54421),
        "us-east1": (2.7, 0.54421),
        "us-east4": (2.7, 0.57766),
        "us-east5": (2.7, 1.215),
        "us-south1": (2.7, 1.35),
        "us-west1": (2.7, 0.54421),
    },
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Dollars a chip-hour for a number of chips, and where that price is from."""

    chips: int
    chip_hour: float
    origin: str

    def of(self, hours: float) -> float:
        """Returns the dollars of all chips for these hours."""
        return self.chips * self.chip_hour * hours

    def line(self) -> str:
        """Returns one sentence for a person."""
        return (
            f"{self.chips:,} chips at ${self.chip_hour:,.2f} a chip-hour ({self.origin}): "
            f"${self.of(1):,.2f} an hour, ${self.of(24):,.2f} a day."
        )


def cost(
    topology: Topology, zone: str, spot: bool = False, own: float | None = None
) -> Cost | None:
    """Returns what slices cost in a zone; None where the table doesn't know and `own` isn't given.

    `own` is the user's price of a chip-hour, which a reservation or a contract sets.
    """
    if own is not None:
        return Cost(topology.num_chips, own, "your price")
    return _listed(topology, zone.rpartition("-")[0], spot)


def offers(topology: Topology, own: float | None = None) -> list[Cost]:
    """Returns the user's price; without it the table's lowest on demand and its lowest spot price.

    Empty where the table doesn't know the type.
    """
    if own is not None:
        return [Cost(topology.num_chips, own, "your price")]
    regions = PRICES.get(topology.chip.name, {})
    ways = [[_listed(topology, region, spot) for region in regions] for spot in (False, True)]
    known = [[offer for offer in way if offer is not None] for way in ways]
    return [min(way, key=lambda offer: offer.chip_hour) for way in known if way]


def _listed(topology: Topology, region: str, spot: bool) -> Cost | None:
    both = PRICES.get(topology.chip.name, {}).get(region)
    price = both[1 if spot else 0] if both else None
    if price is None:
        return None
    way = "spot" if spot else "on demand"
    origin = f"list price, {way} in {region}, {DATE}, {SOURCE}"
    return Cost(topology.num_chips, price, origin)
