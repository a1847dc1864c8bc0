"""One model from outside, measured in the place of a study's on its second seed.

That seed's networks see every attack of the suite, and signs of masking are looked for there.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tla.measure.answers import Columns, predict
from tla.measure.external import External, check_external, check_gradient
from tla.measure.kept import kept
from tla.measure.referee import check
from tla.measure.stage import FITNESS_IMAGES, Job, Stage
from tla.measure.suite import transfer_columns
from tla.params import AutoAttack, Params, UserError
from tla.train.checkpoints import model_path
from tla.train.data import TEST, Split
from tla.workers import Opened

PIXELS = "float32 in [0, 1] as attacked, not rounded to 8 bits"


class Scored(Stage):
    """Data and networks of a study, and one more model, `name`; `opened` holds it as `Loaded`.

    At most `images` test images are measured, None: all of them. Finished work is kept in `folder`;
    where `save`, also the images that the suite's attacks return.
    """

    def __init__(self, params: Params, name: str, opened: Opened, images: int | None, folder: Path,
                 save: bool):
        super().__init__(params)
        self.recipe = params, name, opened, images, folder, save
        self.name, self.images, self.folder, self.save = name, images, folder, save
        self.seed, self.loaded = params.seeds[1], opened.content
        self._refuse_trained_on_test_images()
        batches = [params.evaluate.batch]
        batches += [attack.batch for attack in params.evaluate.attacks.values()
                    if isinstance(attack, AutoAttack)]
        self.external = External(self.loaded.network, max(batches), self.data.classes)
        self.external.to(self.device)

    def __reduce__(self):
        return Scored, self.recipe

    def check(self) -> None:
        """Raise UserError where the model is unfit to be attacked."""
        test = self.test(self.seed, FITNESS_IMAGES)
        half = (len(test.y) + 1) // 2
        try:
            check_external(self.external, test, self.data.classes)
            # Two pieces run where attacks will. The gradient of an exported program starts threads,
            # and no process with those can be forked.
            self.parallel(lambda part: check_gradient(self.external, test.take(part)),
                          [slice(half), slice(half, None)], "fitness")
        except ValueError as error:
            raise UserError(f"{self.name}: the model {error}") from None

    def _refuse_trained_on_test_images(self) -> None:
        """Our own models have a fold each; others must be known to their owners."""
        seed = self.loaded.about.get("seed", self.seed)
        if self.params.data.folds is not None and seed != self.seed:
            raise UserError(f"{self.name}: was trained with seed {seed}, on test images of seed "
                            f"{self.seed}; name the model of seed {self.seed}")

    @torch.no_grad()
    def embeds(self) -> bool:
        """Whether the model returns an embedding."""
        return self.external(self.test(self.seed, 1).x)[1] is not None

    def network(self, model: str, seed: int) -> nn.Module:
        return self.external if model == self.name else super().network(model, seed)

    def digest(self, model: str, seed: int) -> str:
        return self.loaded.digest if model == self.name else super().digest(model, seed)

    def sample(self, seed: int, part: int, images: int | None) -> Split:
        if part == TEST and self.images is not None:
            images = min(images or self.images, self.images)
        return super().sample(seed, part, images)

    def kept(self, model: str, seed: int, name: str, key: dict,
             function: Callable[[], Columns]) -> Columns:
        if not (self.save and name.startswith("suite-")):
            return kept(self.folder / f"{name}.safetensors", key, function)
        columns = {}

        def images() -> Columns:
            columns.update(function())
            # What an attack returns it shows to the model at its very end.
            return {"x": self.external.last(len(next(iter(columns.values()))))}

        kept(self.folder / f"images-{name}.safetensors", key, images)
        return kept(self.folder / f"{name}.safetensors", key, lambda: columns or function())

    def sources(self) -> list[str]:
        """The study's models whose network of the first seed lies here."""
        return [model for model in self.params.models
                if model_path(self.params, model, self.params.seeds[0]).exists()]

    def transferred(self, sources: list[str]) -> pd.DataFrame:
        """source, idx, label, linf and pred_scored of images made on these models' first seed."""
        return pd.concat(self.parallel(self._transferred, sources, "transfer"))

    def _transferred(self, source: str) -> pd.DataFrame:
        params, made = self.params, self.params.seeds[0]
        test, network = self.test(self.seed, params.transfer.images), self.network(source, made)
        settings = {"attack": params.transfer.attack, "eps": params.attack.eps,
                    "batch": params.evaluate.batch, "seed": made}
        key = self.key(source, made, test, transfer_columns, settings)
        columns = kept(
            self.folder / f"transfer-{source}.safetensors", key | {"judge": self.loaded.digest},
            lambda: transfer_columns(network, test, judges=[("scored", self.external)], **settings))
        rows = {"source": source, "idx": test.idx.cpu().numpy(), "label": test.y.cpu().numpy()}
        return pd.DataFrame(rows | {name: column.numpy() for name, column in columns.items()})

    def adversarial(self, job: Job) -> tuple[Split, Tensor]:
        """The images that an attack of the suite saw, and those that it returned, [n, c, h, w]."""
        parts = [load_file(self.folder / f"images-{one.name}.safetensors")["x"]
                 for one in self._slices(job)]
        return self.sample(job.seed, job.part, job.images), torch.cat(parts).to(self.device)


def write_images(path: Path, network: nn.Module, split: Split, images: Columns, *, eps: float,
                 batch: int, about: dict[str, str]) -> None:
    """Adversarial images as safetensors: idx, label, and of `images` x and prediction.

    The file appears once what was written was read back and passed: each image lies within eps of
    its original, and the network gives it the prediction. Raises ValueError else.
    """
    tensors = images | {"idx": split.idx, "label": split.y}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    save_file({name: values.cpu().contiguous() for name, values in tensors.items()}, unfinished,
              {"about": json.dumps(about | {"pixels": PIXELS, "eps": eps}, sort_keys=True)})
    try:
        check_written(unfinished, network, split, eps=eps, batch=batch)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_written(path: Path, network: nn.Module, split: Split, *, eps: float, batch: int) -> None:
    """Raise ValueError where a file of images is not what it says of these originals."""
    found = load_file(path, device=str(split.x.device))
    check(split.x, found["x"], eps)
    if not (found["idx"].equal(split.idx) and found["label"].equal(split.y)):
        raise ValueError(f"{path}: other images or labels than those attacked")
    if not predict(network, found["x"], batch).equal(found["prediction"]):
        raise ValueError(f"{path}: the model gives other classes than those written")
