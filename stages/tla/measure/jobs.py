"""The suite as jobs: one attack, or none, on one seed's network."""

from tla.measure.autoattack import autoattack_columns
from tla.measure.queries import square_columns
from tla.measure.stage import Job
from tla.measure.suite import attack_columns, clean_columns
from tla.params import Attack, AutoAttack, Evaluate, Params, Square

FUNCTIONS = {"gradient": attack_columns, "autoattack": autoattack_columns, "square": square_columns}


def clean_job(params: Params, seed: int, part: int, images: int | None) -> Job:
    """The network asked about so many images of a part as they are, None: all."""
    batch = params.evaluate.batch
    return Job("clean", seed, part, images, batch, 1, clean_columns, {"batch": batch})


def attack_job(params: Params, name: str, seed: int, part: int, images: int | None) -> Job:
    """An attack of the suite on so many images of a part, None: all."""
    settings, attack = params.evaluate, params.evaluate.attacks[name]
    batch = attack.batch if isinstance(attack, AutoAttack) else settings.batch
    return Job(
        f"suite-{name}", seed, part, images, batch, passes(attack), FUNCTIONS[attack.kind],
        {"name": name, "attack": attack, "eps": params.attack.eps, "batch": settings.batch,
         "seed": seed} | more(attack, settings))


def more(attack: Attack | AutoAttack | Square, settings: Evaluate) -> dict[str, object]:
    """What gradient attacks alone hang on."""
    return {"precision": settings.precision} if isinstance(attack, Attack) else {}


def passes(attack: Attack | AutoAttack | Square) -> int:
    """Times that an attack asks the network about an image, at the most and about."""
    if isinstance(attack, AutoAttack):
        return 10_000
    if isinstance(attack, Square):
        return attack.queries
    return 2 * attack.steps[-1] * attack.restarts
