"""Players play in a page that was never run, and say what they hold."""

import base64
import io
import math
import re
import wave

import pytest
import torch

from mavil_edu import media
from mavil_edu.display import player, video_player


def sine(frequency: float, seconds: float = 1.0) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(round(16_000 * seconds)) / 16_000)


def data_of(html: str) -> bytes:
    return base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])


def test_a_sound_says_its_length_level_and_frequency():
    sentence = player(sine(440, 2.0), "A tone").sentence
    assert sentence == "A tone: sound of 2.00 s, -9 dB of full scale, strongest near 440 Hz."
    assert player(torch.zeros(1600), "Nothing").sentence == "Nothing: 0.10 s of silence."
    with pytest.raises(ValueError, match="no samples"):
        player(torch.zeros(0), "Nothing")


def test_the_src_stands_on_the_element_itself_and_holds_the_sound():
    shown = player(sine(440), "A <tone>")
    assert re.search(r"<audio [^>]*src=\"data:audio/wav", shown.html) and "<source" not in shown.html
    assert "A &lt;tone&gt;" in shown.html and "<tone>" not in shown.html
    with wave.open(io.BytesIO(data_of(shown.html))) as file:
        assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (16_000, 16_000, 1)


def test_a_video_holds_its_frames_and_its_sound(tmp_path):
    frames = torch.randint(256, (25, 32, 32, 3), dtype=torch.uint8).float().mean(0, keepdim=True).expand(25, -1, -1, -1).to(torch.uint8)
    shown = video_player(frames, 25, sine(440), "A clip")
    assert shown.sentence == "A clip: video of 1.00 s, 25 frames of 32 × 32, with sound."
    (tmp_path / "a.mp4").write_bytes(data_of(shown.html))
    clip = media.read_clip(tmp_path / "a.mp4", 1.0, 1.0, 5)
    assert clip.seen.all() and clip.waveform.abs().max() > 0.3
    assert (clip.frames.float() - frames[:5].float()).abs().mean() < 20
    assert "without sound" in video_player(frames, 25, None, "A clip").sentence


def test_the_same_data_give_the_same_page():
    assert player(sine(440), "x").html == player(sine(440), "x").html
    frames = torch.zeros(5, 16, 16, 3, dtype=torch.uint8)
    pages = [video_player(frames, 5, sine(200), "x").html for _ in range(3)]
    assert len(set(pages)) == 1


def test_a_long_sound_takes_few_bytes_and_is_the_same_sound(tmp_path):
    short, long = player(sine(440, 1.5), "x").html, player(sine(440, 2.56), "x").html
    assert "data:audio/wav" in short and "data:audio/mpeg" in long
    assert len(data_of(long)) < 25_000
    assert player(sine(440, 2.56), "x").html == long
    (tmp_path / "a.mp3").write_bytes(data_of(long))
    clip = media.read_clip(tmp_path / "a.mp3", 2.56, 1.0, 1)
    assert clip.seconds == pytest.approx(2.56, abs=0.001), "no silence is added before or after"
    assert (clip.waveform - sine(440, 2.56))[1000:-1000].abs().max() < 0.05
