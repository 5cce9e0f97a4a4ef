# SPDX-License-Identifier: Apache-2.0
import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The models of these tests are too small for more, and a training sets the number of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
