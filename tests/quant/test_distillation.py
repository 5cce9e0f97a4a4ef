# SPDX-License-Identifier: Apache-2.0
"""The loss of a student: on labels and on its teacher's answers, of which some texts have the latter alone."""

import pytest
import torch
from zynqbert.quant.distillation import UNLABELLED, distillation_loss


@pytest.fixture
def answers():
    """Logits of a student and its teacher, and labels, of eight texts."""
    random = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn((2, 8, 3), generator=random, dtype=torch.float64)
    return logits, teacher, torch.randint(0, 3, (8,), generator=random)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_the_published_loss(answers, share):
    logits, teacher, target = answers
    hard = -torch.log_softmax(logits, 1)[range(8), target].mean()
    p, q = (torch.softmax(x / 2, 1) for x in (teacher, logits))
    wanted = (1 - share) * hard + share * 4 * (p * (p / q).log()).sum(1).mean()
    assert float(distillation_loss(logits, target, teacher, share, 2.0)) == pytest.approx(float(wanted), rel=1e-12)


def test_a_text_without_label_follows_the_teacher_alone(answers):
    logits, teacher, target = answers
    some = target.clone()
    some[[1, 4]] = UNLABELLED

    def loss(share, rows, labels):
        return distillation_loss(logits[rows], labels[rows], teacher[rows], share, 2.0)

    whole = list(range(8))
    labelled = [i for i in whole if i not in (1, 4)]
    assert float(loss(1.0, whole, some)) == float(loss(1.0, whole, target))
    wanted = 0.75 * float(loss(0.0, labelled, target))  # a mean over all eight
    assert float(loss(0.0, whole, some)) == pytest.approx(wanted, rel=1e-12)
    assert float(loss(0.0, [1, 4], some)) == 0.0
