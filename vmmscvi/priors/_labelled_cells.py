r"""Labels of some cells in the search for components.

A component has a label or is free, and a label may be wrong. Given its component ``k``, a cell has the
component's label with probability :math:`1 - \epsilon`, and each of the other ``L - 1`` labels with
probability :math:`\epsilon / (L - 1)`. In a free component, every label is as improbable as a wrong one.
Unlabelled cells carry no information about labels.

Components with different labels may be merged at the cost of the labels that become wrong; with
:math:`\epsilon = 0` they may not. A few wrong labels in a cluster therefore do not prevent a merge.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vmmscvi.priors._component_labels import FREE, right_and_wrong

EXPECTED_NOISE = 0.05
"""Prior expectation of the share of wrong labels."""
NOISE_CONFIDENCE = 20.0
"""Weight of this expectation, in labelled cells."""
LARGEST_NOISE = 0.5
SMALLEST_GROUP = 10
"""Smallest number of cells of one label in a k-means cluster that form a separate initial component."""
FEW = 0.1
"""A component is free if its share of labelled cells is below this multiple of its batches' share."""
IMPOSSIBLE = -1e4
"""Log-probability in place of minus infinity, so that its product with zero cells is zero."""


class LabelledCells(NamedTuple):
    """Labels of ``n`` cells.

    Attributes
    ----------
    codes
        Label of every cell, 0 to ``n_labels - 1``, or -1 if it has none; shape ``(n,)``.
    rate
        Share of labelled cells in the batch of every cell, shape ``(n,)``.
    n_labels
        Number of labels.
    noise
        Share of wrong labels.
    learns_noise
        Whether ``noise`` is learned; otherwise it is given.
    """

    codes: Tensor
    rate: Tensor
    n_labels: int
    noise: float
    learns_noise: bool

    @classmethod
    def of(
        cls, codes: Tensor, batches: Tensor | None = None, noise: float | None = None
    ) -> LabelledCells | None:
        """Describe the labels of cells.

        Parameters
        ----------
        codes
            Label of every cell, from 0 without gaps, -1 for none; shape ``(n,)``.
        batches
            Code of every cell's batch, because the share of labelled cells may differ between batches.
        noise
            Share of wrong labels; ``None`` to learn it.

        Returns
        -------
        LabelledCells | None
            The labels; ``None`` if no cell has one.
        """
        codes = codes.long()
        is_labelled = (codes >= 0).double()
        if not is_labelled.any():
            return None
        batches = torch.zeros_like(codes) if batches is None else batches.long()
        of_batch = is_labelled.new_zeros(int(batches.max()) + 1)
        rate = of_batch.index_add(0, batches, is_labelled) / torch.bincount(batches).clamp_min(1)
        expected = EXPECTED_NOISE if noise is None else noise
        return cls(codes, rate[batches], int(codes.max()) + 1, expected, noise is None)

    # -- components ------------------------------------------------------------------------------------------

    def counts(self, r: Tensor) -> Tensor:
        """Count the cells of each label in each component.

        Parameters
        ----------
        r
            Responsibilities, shape ``(n, K)``.

        Returns
        -------
        Tensor
            Counts of shape ``(K, L)``.
        """
        labelled = self.codes >= 0
        of_label = r.new_zeros(self.n_labels, r.shape[1])
        return of_label.index_add_(0, self.codes[labelled], r[labelled]).mT

    def of_components(self, r: Tensor) -> Tensor:
        """Determine the label of each component.

        The label is the most frequent one among the component's labelled cells. A component is free if far
        fewer of its cells are labelled than in its batches, unless it holds more cells of the label than any
        other component.

        Parameters
        ----------
        r
            Responsibilities, shape ``(n, K)``.

        Returns
        -------
        Tensor
            Labels of shape ``(K,)``, ``FREE`` for none.
        """
        counts = self.counts(r)
        most, label = counts.max(1)
        candidates = counts.where(label.unsqueeze(1) == torch.arange(self.n_labels), -1.0)
        largest, at = candidates.max(0)
        is_main = torch.zeros(len(label), dtype=torch.bool)
        is_main[at[largest > 0]] = True
        enough = counts.sum(1) >= (FEW * (self.rate.to(r) @ r)).clamp_min(0.5)
        return label.where((most > 0) & (enough | is_main), FREE)

    def log_likelihood_of_cells(self, r: Tensor) -> Tensor:
        """Log-probability of every cell's label given each component.

        Parameters
        ----------
        r
            Responsibilities, shape ``(n, K)``.

        Returns
        -------
        Tensor
            Log-probabilities of shape ``(n, K)``.
        """
        own = torch.arange(self.n_labels).unsqueeze(1) == self.of_components(r)
        right, wrong = right_and_wrong(self.noise, self.n_labels, IMPOSSIBLE)
        table = r.new_full(own.shape, wrong).masked_fill(own, right)
        table = torch.cat((table, table.new_zeros(1, r.shape[1])))
        return table[self.codes]  # the last row is for unlabelled cells

    def log_likelihood(self, r: Tensor) -> float:
        """Log-probability of all labels given responsibilities.

        Parameters
        ----------
        r
            Responsibilities, shape ``(n, K)``.

        Returns
        -------
        float
            The log-probability.
        """
        return float((self.log_likelihood_of_cells(r) * r).sum())

    def merge_gain(self, r: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Return the gain in the labels' log-likelihood from merging components ``i`` and ``j``.

        The union takes the more likely of two labels. A free component takes the label of its partner.

        Parameters
        ----------
        r
            Responsibilities, shape ``(n, K)``.
        i, j
            Indices of the components of each pair, shape ``(n_pairs,)``.

        Returns
        -------
        Tensor
            Gains of shape ``(n_pairs,)``; minus infinity if a label would lose its last component.
        """
        counts, labels = self.counts(r), self.of_components(r)
        n = counts.sum(1, keepdim=True)
        right, wrong = right_and_wrong(self.noise, self.n_labels, IMPOSSIBLE)
        # of each component with each label; the last column, at index FREE, is for no label
        score = torch.cat((counts * (right - wrong) + n * wrong, n * wrong), dim=1)
        n_components = torch.bincount(labels[labels >= 0], minlength=self.n_labels)
        is_last = (labels >= 0) & (n_components[labels.clamp_min(0)] == 1)
        own = score[torch.arange(len(labels)), labels]
        first, second = labels[i], labels[j]
        by_first, by_second = (score[i, label] + score[j, label] for label in (first, second))
        takes_first = (second == FREE) | ((first != FREE) & (by_first >= by_second))
        label = first.where(takes_first, second)
        gain = by_first.where(takes_first, by_second) - own[i] - own[j]
        lost = ((label != first) & is_last[i]) | ((label != second) & is_last[j])
        return gain.masked_fill(lost, -math.inf)

    # -- the search ------------------------------------------------------------------------------------------

    def with_noise_of(self, r: Tensor) -> LabelledCells:
        """Learn the share of wrong labels from responsibilities, unless it is given.

        Parameters
        ----------
        r
            Responsibilities, shape ``(n, K)``.

        Returns
        -------
        LabelledCells
            The labels with the learned share.
        """
        if not self.learns_noise:
            return self
        counts, labels = self.counts(r), self.of_components(r)
        counts, labels = counts[labels >= 0], labels[labels >= 0]
        n_labelled = float(counts.sum())
        n_wrong = n_labelled - float(counts.gather(1, labels.unsqueeze(1)).sum())
        learned = (n_wrong + EXPECTED_NOISE * NOISE_CONFIDENCE) / (n_labelled + NOISE_CONFIDENCE)
        return self._replace(noise=min(learned, LARGEST_NOISE))

    def split(self, clusters: Tensor) -> Tensor:
        """Divide the initial k-means clusters of a search by the labels of their cells.

        Unlabelled cells, and labels with few cells, stay with the most frequent label of their cluster.

        Parameters
        ----------
        clusters
            Cluster of every cell, shape ``(n,)``.

        Returns
        -------
        Tensor
            New clusters, numbered without gaps, shape ``(n,)``.
        """
        labelled = self.codes >= 0
        n_clusters = int(clusters.max()) + 1
        pair = clusters * self.n_labels + self.codes
        counts = torch.bincount(pair[labelled], minlength=n_clusters * self.n_labels)
        counts = counts.view(n_clusters, self.n_labels)
        apart = counts >= SMALLEST_GROUP
        apart[counts.argmax(0), torch.arange(self.n_labels)] = True
        apart[torch.arange(n_clusters), counts.argmax(1)] = False
        own = labelled & apart[clusters, self.codes]
        groups = torch.where(own, n_clusters + pair, clusters)
        numbers: Tensor = torch.unique(groups, return_inverse=True)[1]
        return numbers

    def completed(self, r: Tensor) -> Tensor:
        """Add a component of its labelled cells for every label that the search has dropped.

        Parameters
        ----------
        r
            Responsibilities, shape ``(n, K)``.

        Returns
        -------
        Tensor
            Responsibilities with a component for every label.
        """
        has_component = self.of_components(r).tolist()
        for label in range(self.n_labels):
            if label not in has_component:
                of_label = self.codes == label
                r = torch.cat((r.masked_fill(of_label.unsqueeze(1), 0.0), of_label.to(r).unsqueeze(1)), dim=1)
        return r[:, r.sum(0) > 0]
