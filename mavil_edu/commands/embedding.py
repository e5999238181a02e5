"""The command that turns clips into embeddings: embed."""

from pathlib import Path

import tyro

from mavil_edu.commands.common import say


def embed(paths: tyro.conf.Positional[list[Path]], out: Path, checkpoint: str = "tiny") -> None:
    """Writes the embeddings of every window of any clips as a table: .parquet, or .npz for NumPy.

    Example: mavil-edu embed my_clips --checkpoint runs/mine --out features.parquet

    Example: mavil-edu embed holiday.mp4 --checkpoint released.pth --out features.npz

    Columns: clip; audio_start, audio_stop, video_start, video_stop in seconds; audio and video, each modality's own embedding; fused, the
    mean fused audio token beside the mean fused video token. A clip without sound has nulls (NaN in .npz) for audio and fused, and
    likewise one without pictures. A window wider than its clip is padded, and may begin before it, below 0 s.

    Args:
        paths: media files, or folders that are searched for them; a clip longer than the model's window is covered by several.
        out: the table; one that is there is replaced.
        checkpoint: a run's folder, a model's folder, a name on the Hub, or a file in the layout of the released MAViL; by default the
            small model that comes with the package.
    """
    from mavil_edu.embeddings import check_suffix

    check_suffix(out)
    if not paths:
        raise ValueError("Name one or more files or folders: mavil-edu embed my_clips --out features.parquet")

    import warnings

    import torch

    from mavil_edu import MAViL, media
    from mavil_edu.data.batch import Skipped
    from mavil_edu.embeddings import embed_windows, windows, write_table
    from mavil_edu.progress import tracked

    found = media.find_media(paths)
    if not found:
        raise ValueError(f"There is no media file in {', '.join(map(str, paths))}.")
    if Path(checkpoint).is_file():
        from mavil_edu.released import load_released

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = load_released(checkpoint)
        for warning in told:
            say(str(warning.message))
    else:
        model = MAViL.from_pretrained(checkpoint)
    if torch.accelerator.is_available():
        model = model.to(torch.accelerator.current_accelerator())
    left_out: list[Skipped] = []

    def usable():
        for window in windows(tracked(found, "embedding", len(found)), model.config):
            if isinstance(window, Skipped):
                left_out.append(window)
                say(f"left out: {window.path}: {window.reason}")
            else:
                yield window

    count = write_table(out, embed_windows(model, usable()), model.config.encoder.width)
    also = f" {len(left_out)} files or windows were left out." if left_out else ""
    say(f"{count} windows of {len(found)} files are in {out}.{also}")
