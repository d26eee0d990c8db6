"""Where a run writes: a video file, a folder of images, or a pipe."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharpreel.engines.tiling import validate_tile
from sharpreel.errors import InputError, UsageError, VerificationError
from sharpreel.media import reader as video_reader
from sharpreel.media.color import RGB
from sharpreel.media.containers import CONTAINERS
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.image_folder import ImageFolderReader, ImageFolderWriter, probe_folder
from sharpreel.media.images import image_files
from sharpreel.media.probe import probe
from sharpreel.pipeline.journal import Journal
from sharpreel.pipeline.options import UpscaleOptions, validate_options
from sharpreel.pipeline.plan import Plan, choose_model, target_size, validate_output, validate_size


@dataclass(frozen=True)
class PicturesPlan(Plan):
    """A run whose output is a folder of PNG pictures.

    `names` maps pts to file name for a folder of pictures; frames of a video are named by count.
    """

    names: tuple[str, ...] = ()

    def reader(self, start_pts: int | None = None) -> Any:
        if self.source.is_dir():
            return ImageFolderReader(self.info, start_pts)
        return video_reader.VideoReader(
            self.info, start_pts, self.options.strict, alpha=self.info.alpha
        )

    def segment_name(self, number: int) -> str:
        return f"seg-{number:05d}"

    def sink(self, part: Path) -> ImageFolderWriter:
        return ImageFolderWriter(part, self.settings, dict(enumerate(self.names)))

    def finish(self, work: Journal, tell: Any) -> Path:
        """All pictures in one folder, linked, so that the segments stay until the end."""
        folder = work.path("frames")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        count = 0
        for entry in work.entries:
            for picture in sorted((work.path(entry.name)).iterdir()):
                # Frames of a video are numbered in the end, when their count is known to all.
                name = picture.name if self.names else f"{count:08d}.png"
                try:
                    os.link(picture, folder / name)
                except OSError:
                    shutil.copy2(picture, folder / name)
                count += 1
        return folder

    def check(self, finished: Path, work: Journal) -> None:
        made = {p.name for p in finished.iterdir()}
        wanted = sum(len(e.pts) for e in work.entries)
        if len(made) != wanted or (self.names and made != set(self.names)):
            raise VerificationError(
                f"{finished}: {len(made)} pictures were made for {wanted} frames.",
                [f"{wanted} frames went in, {len(made)} came out"],
            )

    def place(self, finished: Path) -> None:
        """Give the finished folder its name; into one that is there the pictures are put."""
        if not self.output.is_dir():
            self.output.unlink(missing_ok=True)
            os.replace(finished, self.output)
            return
        for picture in finished.iterdir():
            os.replace(picture, self.output / picture.name)


def make_plan(source: Path, output: Path | None, options: UpscaleOptions) -> PicturesPlan:
    """Plan a run from a folder of pictures, or from a video to one.

    Raises:
        InputError, UsageError, errors.NothingToDoError: As `plan.make_plan`.
    """
    validate_options(options)
    folder = source.is_dir()
    if folder and output is not None and output.suffix.lower() in CONTAINERS:
        raise UsageError(
            f"{output}: a folder of pictures becomes a folder; give -o without suffix."
        )
    info = probe_folder(source) if folder else probe(source)
    model = choose_model(options, *info.shown_size)
    validate_tile(model, options.tile)
    scale = model.scale
    width, height = target_size(options, info, scale)
    validate_size(source, info, (width, height), scale)
    if output is None:
        whole = Path(os.path.abspath(source))  # "." has no name
        output = whole.with_name(f"{whole.name}_{model.name}_x{scale}")
    settings = EncodeSettings(
        codec="png",
        pix_fmt="rgb48le" if info.bits > 8 else "rgb24",
        width=width,
        height=height,
        crf=None,
        preset=None,
        color=replace(info.color, matrix=RGB, full_range=True),
        rate=info.rate,
        time_base=info.time_base,
    )
    files = image_files(source) if folder else []
    names = tuple(f"{p.stem}.png" for p in files)
    if len(set(names)) != len(names):
        raise InputError(f"{source}: two pictures would get the same name; keep one kind of file.")
    notes = []
    if output.is_dir():
        others = sum(1 for path in output.iterdir() if path.name not in names)
        if others:
            notes.append(f"{output} holds {others} other files, which stay there")
    if info.alpha:
        notes.append("transparency is enlarged bicubically and kept")
    if not folder:
        notes.append("frames become numbered PNG pictures; sound and timestamps are not kept")
    made = PicturesPlan(
        source=source,
        output=output,
        options=options,
        info=info,
        model=model,
        settings=settings,
        streams=(),
        suffix="",
        chapters=0,
        notes=tuple(notes),
        names=names,
    )
    validate_output(source, output, options)
    return made
