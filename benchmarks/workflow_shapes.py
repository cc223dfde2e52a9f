"""Graphs of the shapes of published scientific workflows, with made-up durations.

Owns the shapes: which steps there are, how many chores each has, and who needs whom. Used by
`makespan`. Loads nothing of ours.

What was published are the steps and their dependencies; how many chores a step has follows from
`width`. Durations are lognormal, since what people measured is skewed like that: the median of a
step relative to the others is in the order of what was published (where all of it was), compressed
so that a run takes seconds; `Shape.scaled` sets the sum. The same arguments give the same graph.

Sources of the shapes:

- Montage (mosaics of the sky) and Epigenomics (methylation of DNA): G. Juve, A. Chervenak, E.
  Deelman, S. Bharathi, G. Mehta, K. Vahi, "Characterizing and profiling scientific workflows",
  Future Generation Computer Systems 29 (2013) 682-692.
- Cycles (agroecosystems): R. Ferreira da Silva et al., "Empowering agroecosystem modeling with HTC
  scientific workflows: the Cycles model use case", IEEE Big Data 2019.
- 1000Genome (mutational overlaps), SoyKB (resequencing of soybeans) and BLAST, and instances of all
  of them: T. Coleman, H. Casanova, L. Pottier, M. Kaushik, E. Deelman, R. Ferreira da Silva,
  "WfCommons: a framework for enabling scientific workflow research and development", Future
  Generation Computer Systems 128 (2022) 16-27; its recipes, made from recorded runs, are what these
  shapes were checked against, step by step and edge by edge. SoyKB
  itself: Y. Liu et al., "PGen: large-scale genomic variations analysis workflow and browser in
  SoyKB", BMC Bioinformatics 17 (2016) 337.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

SPREAD = 0.5
"""Standard deviation of the logarithm of durations within a step."""


class Step(NamedTuple):
    """One chore of a shape."""

    group: str
    seconds: float
    upstream: tuple[int, ...]
    """Positions of the chores whose results it takes; all are before its own."""


class Shape(NamedTuple):
    """A graph in an order in which it can run."""

    name: str
    steps: tuple[Step, ...]

    @property
    def work(self) -> float:
        """Seconds of all chores together."""
        return sum(step.seconds for step in self.steps)

    @property
    def critical_path(self) -> float:
        """Seconds of the longest chain: no number of cores makes it shorter."""
        ends: list[float] = []
        for step in self.steps:
            ends.append(step.seconds + max((ends[place] for place in step.upstream), default=0.0))
        return max(ends)

    def scaled(self, work: float) -> Shape:
        """Return the same graph with `work` seconds of all chores together."""
        factor = work / self.work
        steps = (step._replace(seconds=step.seconds * factor) for step in self.steps)
        return Shape(self.name, tuple(steps))


class _Sketch:
    """Collects the chores of one graph."""

    def __init__(self, seed: str) -> None:
        self.steps: list[Step] = []
        self._random = Random(seed)

    def add(self, group: str, median: float, upstream: Iterable[int] = ()) -> int:
        """Add a chore and return its position."""
        seconds = self._random.lognormvariate(math.log(median), SPREAD)
        self.steps.append(Step(group, seconds, tuple(upstream)))
        return len(self.steps) - 1


def montage(width: int) -> Shape:
    """Return `width` images in each of three bands, reprojected, fitted in pairs and added up."""
    sketch = _Sketch("montage")
    mosaics = []
    for _ in range(3):
        images = [sketch.add("mProject", 4.0) for _ in range(width)]
        # An image overlaps with its neighbours on the sky, in both directions.
        row = max(2, math.isqrt(width))
        pairs = [(place, place + step) for step in (1, row) for place in images[:-step]]
        fits = [sketch.add("mDiffFit", 1.0, pair) for pair in pairs]
        concat = sketch.add("mConcatFit", 4.0, fits)
        model = sketch.add("mBgModel", 8.0, [concat])
        levelled = [sketch.add("mBackground", 1.5, [image, model]) for image in images]
        table = sketch.add("mImgtbl", 2.0, levelled)
        mosaics.append(sketch.add("mAdd", 8.0, [table, *levelled]))
        sketch.add("mViewer", 3.0, mosaics[-1:])
    sketch.add("mViewer", 4.0, mosaics)
    return Shape("Montage", tuple(sketch.steps))


def epigenomics(width: int) -> Shape:
    """Return two lanes of reads that are split, of which `width` chunks each go down a chain."""
    sketch = _Sketch("epigenomics")
    lanes = []
    for _ in range(2):
        split = sketch.add("fastqSplit", 6.0)
        chunks = []
        for _ in range(width):
            place = split
            for group, median in (
                ("filterContams", 2.5),
                ("sol2sanger", 0.5),
                ("fastq2bfq", 1.4),
                ("map", 20.0),
            ):
                place = sketch.add(group, median, [place])
            chunks.append(place)
        lanes.append(sketch.add("mapMerge", 5.0, chunks))
    merged = sketch.add("mapMerge", 8.0, lanes)
    chromosome = sketch.add("chr21", 6.0, [merged])
    sketch.add("pileup", 10.0, [chromosome])
    return Shape("Epigenomics", tuple(sketch.steps))


def cycles(width: int) -> Shape:
    """Return two regions of `width` fields, simulated with and without more fertilizer."""
    sketch = _Sketch("cycles")
    summaries = []
    for _ in range(2):
        outputs, increases = [], []
        for _ in range(width):
            baseline = sketch.add("baseline_cycles", 4.0)
            plain = sketch.add("cycles", 4.0, [baseline])
            more = sketch.add("fertilizer_increase_cycles", 4.0, [baseline])
            outputs.append(plain)
            increases.append(sketch.add("fertilizer_increase_parser", 1.0, [plain, more]))
        summaries.append(sketch.add("cycles_output_summary", 3.0, outputs))
        sketch.add("fertilizer_increase_summary", 3.0, increases)
    sketch.add("cycles_plots", 6.0, summaries)
    return Shape("Cycles", tuple(sketch.steps))


def thousand_genomes(width: int) -> Shape:
    """Return four chromosomes, `width` slices of individuals each, for seven populations."""
    sketch = _Sketch("1000genome")
    for _ in range(4):
        slices = [sketch.add("individuals", 12.0) for _ in range(width)]
        merged = sketch.add("individuals_merge", 8.0, slices)
        sifted = sketch.add("sifting", 6.0)
        for _ in range(7):
            sketch.add("mutation_overlap", 4.0, [merged, sifted])
            sketch.add("frequency", 10.0, [merged, sifted])
    return Shape("1000Genome", tuple(sketch.steps))


def soykb(width: int) -> Shape:
    """Return `width` samples that are aligned, and called and filtered by chromosome."""
    sketch = _Sketch("soykb")
    called: list[list[int]] = [[] for _ in range(10)]
    for _ in range(width):
        place = sketch.add("alignment_to_reference", 6.0)
        for group, median in (("sort_sam", 2.0), ("dedup", 2.0), ("add_replace", 1.5)):
            place = sketch.add(group, median, [place])
        targets = sketch.add("realign_target_creator", 5.0, [place])
        place = sketch.add("indel_realign", 3.0, [place, targets])
        for chromosome in called:
            chromosome.append(sketch.add("haplotype_caller", 4.0, [place]))
    sketch.add("merge_gcvf", 5.0, [call for chromosome in called for call in chromosome])
    genotypes = [sketch.add("genotype_gvcfs", 6.0, chromosome) for chromosome in called]
    combined = sketch.add("combine_variants", 4.0, genotypes)
    for kind in ("snp", "indel"):
        selected = sketch.add(f"select_variants_{kind}", 3.0, [combined])
        sketch.add(f"filtering_{kind}", 3.0, [selected])
    return Shape("SoyKB", tuple(sketch.steps))


def blast(width: int) -> Shape:
    """Return a file of sequences, of which `width` pieces are searched for at the same time."""
    sketch = _Sketch("blast")
    split = sketch.add("split_fasta", 2.0)
    found = [sketch.add("blastall", 20.0, [split]) for _ in range(width)]
    sketch.add("cat_blast", 2.0, found)
    sketch.add("cat", 1.0, found)
    return Shape("BLAST", tuple(sketch.steps))


SHAPES: tuple[tuple[Callable[[int], Shape], int], ...] = (
    (montage, 13),
    (epigenomics, 18),
    (cycles, 18),
    (thousand_genomes, 20),
    (soykb, 8),
    (blast, 120),
)
"""Each shape, and the `width` at which it has some 120 to 180 chores."""


def shapes(share: float = 1.0) -> list[Shape]:
    """Return all shapes, with `share` of the usual width."""
    return [make(max(2, round(width * share))) for make, width in SHAPES]
