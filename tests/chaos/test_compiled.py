"""The compiler itself, on a model that it is quick with: half a minute of two cores, most of it for C++ headers."""

import numpy as np
import pytest
import torch

from pipeline.stages.compiling import form_key, known_worth, micro_batch
from pipeline.stages.model.compiled import compiled_for_cpu
from pipeline.stages.model.load import compile_if_possible
from pipeline.stages.user_cache import user_cache
from tests.test_device_batches import SPEC, Quick, classifier_of, photos, undisturbed

N_IMAGES = micro_batch(SPEC.precision)


@pytest.mark.timeout(600)
def test_the_compiled_form_gives_the_same_answers_and_is_there_for_the_next_process(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    classifier = classifier_of(Quick(), slice_size=N_IMAGES)
    key = form_key(SPEC, torch.get_num_threads())

    compile_if_possible(classifier, SPEC, must_compile=True)
    program = classifier.program.model
    program.sizes.clear()
    answer = classifier(photos(N_IMAGES + 5))

    expected = undisturbed(photos(N_IMAGES + 5))
    assert program.sizes == []  # it is the compiled form that answered
    assert answer.probability == pytest.approx(expected.probability, abs=1e-6)
    assert (answer.class_index[:, 0] == expected.class_index[:, 0]).all()
    assert known_worth(key).compile_s > 0
    assert sorted(path.name for path in (user_cache() / "compiled").iterdir()) == [key, f"{key}.lock"]

    # The next process opens it: a program that nobody could compile will do.
    buffer = torch.from_numpy(photos(N_IMAGES))
    again = compiled_for_cpu(None, buffer, key)(buffer)
    assert np.abs(again[:, 5:10].numpy() - expected.probability[:N_IMAGES]).max() < 1e-6
