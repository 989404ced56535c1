"""Sounds that resemble speech, music and noise, made from a seed.

A voice is a buzz of a changing pitch, whose harmonics are as loud as the resonances of
a throat (formants) make them: the source and the filter of Fant 1960, by adding up
sines. Formants glide from one vowel to the next; hisses and pauses lie in between.
"""

import numpy as np

RATE = 16_000  # samples a second
_HARMONICS = 24
# Resonances of a male throat in Hz, by vowel: Peterson and Barney 1952, table II.
_VOWELS = np.array(
    [
        (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410),
        (730, 1090, 2440), (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240),
        (640, 1190, 2390), (490, 1350, 1690),
    ],
    np.float64,
)  # fmt: skip
_WIDTHS = (80.0, 100.0, 140.0)  # of the resonances, in Hz
_GAINS = (1.0, 0.6, 0.3)


def scene(seconds: int, seed: int) -> np.ndarray:
    """Pieces of three seconds: voices, tones and silence, each in some noise.

    Args:
        seconds: A multiple of 3.
        seed: Of all that is drawn.

    Returns:
        float32 `[seconds * RATE]`, within [-1, 1].
    """
    rng = np.random.default_rng(seed)
    pieces = [_piece(number, rng) for number in range(seconds // 3)]
    return np.clip(np.concatenate(pieces), -1, 1).astype(np.float32)


def _piece(number: int, rng: np.random.Generator) -> np.ndarray:
    length = 3 * RATE
    sound = np.zeros(length) if number % 3 == 2 else voice(length, rng)
    if number % 4 == 3:
        time = np.arange(length) / RATE
        pitch = 300 + 200 * np.sin(time * rng.uniform(3, 8))
        sound = sound + 0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
    noise = rng.normal(size=length) * 10 ** rng.uniform(-4, -1.7)
    return sound * 10 ** rng.uniform(-1, 0) + noise


def voice(length: int, rng: np.random.Generator) -> np.ndarray:
    """Syllables of one speaker, with hisses and pauses; float64 `[length]`, about 1."""
    throat = rng.uniform(1.0, 1.2)  # a shorter one has higher resonances
    base = rng.uniform(90, 220)
    pitch, loud, hiss = (np.zeros(length) for _ in range(3))
    formants = np.zeros((3, length))
    start, vowel = 0, _VOWELS[0]
    while start < length:
        end = min(start + int(RATE * rng.uniform(0.1, 0.28)), length)
        next_vowel = _VOWELS[rng.integers(len(_VOWELS))] * throat
        part = np.linspace(0, 1, end - start)
        glide = np.clip(3 * part, 0, 1)  # the new vowel is there after a third
        formants[:, start:end] = (
            vowel[:, None] * (1 - glide) + next_vowel[:, None] * glide
        )
        pitch[start:end] = base * 2 ** (rng.normal() / 8 - part / 10)
        speaks = rng.random() > 0.15
        loud[start:end] = speaks * rng.uniform(0.5, 1) * np.sin(np.pi * part) ** 0.5
        consonant = min(start + int(RATE * rng.uniform(0.02, 0.07)), end)
        hiss[start:consonant] = speaks * rng.choice([0, 0.05, 0.2])
        start, vowel = end, next_vowel
    sung = _buzz(pitch, formants) * loud
    noise = np.diff(rng.normal(size=length + 1))  # high frequencies are loudest
    return sung + noise * hiss


def _buzz(pitch: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Harmonics of a pitch `[length]`, as loud as formants `[3, length]` make them."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    total = np.zeros_like(pitch)
    for harmonic in range(1, _HARMONICS + 1):
        frequency = harmonic * pitch
        gain = sum(
            g / (1 + ((frequency - own) / width) ** 2)
            for g, own, width in zip(_GAINS, formants, _WIDTHS, strict=True)
        )
        total += (0.05 + gain) / harmonic**0.5 * np.sin(harmonic * phase)
    return 0.4 * total
