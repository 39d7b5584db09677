"""A model, classes and labels of one's own, by the command as people type it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large

from pipeline.stages.labels import breeds
from pipeline.verify import main as verify
from tests.command_line import run

PRODUCTS = [f"product {letter}" for letter in "abcdefghij"]
MODEL = ["--model", "mobilenet_v3_large", "--cluster", "cpu", "--precision", "fp32", "--batch-size", "8"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory, drawings):
    """Photos of ten products in folders that say nothing, a model of ten classes, and a table of labels."""
    folder = tmp_path_factory.mktemp("shop")
    of_breed = {breed.folder: i for i, breed in enumerate(breeds()[:10])}
    labels = []
    for number, (key, data) in enumerate(drawings[:96]):  # the others are no images
        breed = key.split("/")[1]
        if breed in of_breed:
            path = folder / "photos" / f"{number % 3}" / f"{number}.JPG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            labels.append((f"{path.parent.name}/{path.name}", PRODUCTS[of_breed[breed]]))
    torch.manual_seed(1)
    model = mobilenet_v3_large(num_classes=10).eval()
    torch.nn.init.normal_(model.classifier[-1].weight, std=1.0)
    torch.save(model.state_dict(), folder / "own.pth")
    (folder / "products.txt").write_text("\n".join(PRODUCTS))
    pd.DataFrame(labels, columns=["image", "class"]).to_csv(folder / "labels.csv", index=False)
    return folder, model


def options(folder, labels):
    files = {"--weights": "own.pth", "--categories": "products.txt"}
    return [*MODEL, *(word for flag, name in files.items() for word in (flag, str(folder / name))), "--labels", labels]


@pytest.fixture(scope="module")
def finished(shop):
    folder, _ = shop
    done = run(str(folder / "photos"), str(folder / "out"), *options(folder, str(folder / "labels.csv")))
    assert done.returncode == 0, done.stderr
    return done, pd.read_parquet(folder / "out" / "outcomes")


def test_its_answers_are_those_of_torchvisions_own_model_and_transform(shop, finished):
    _, model = shop
    _, table = finished
    transform = MobileNet_V3_Large_Weights.DEFAULT.transforms()

    with torch.inference_mode():
        images = [transform(Image.open(url.removeprefix("file://")).convert("RGB")) for url in table["image"]]
        expected = model(torch.stack(images)).softmax(1).numpy()

    ranked = np.sort(expected, axis=1)
    is_close_call = ranked[:, -1] - ranked[:, -2] < 1e-3
    assert ((table["class_index"] == expected.argmax(1)) | is_close_call).all()
    assert np.abs(table["probability"] - ranked[:, -1]).max() < 1e-3
    assert len(set(table["class_index"])) > 1


def test_the_rows_are_judged_by_the_table_and_named_by_the_categories(shop, finished):
    folder, _ = shop
    _, table = finished
    labels = pd.read_csv(folder / "labels.csv").set_index("image")["class"]
    names = table["image"].str.removeprefix(f"file://{folder}/photos/")

    assert table["breed"].tolist() == labels.loc[names].tolist()
    assert (table["category"] == [PRODUCTS[index] for index in table["class_index"]]).all()
    assert (table["correct"] == (table["breed"] == table["category"])).all()
    assert table["wnid"].isna().all()
    assert table["correct_breed"].isna().all()


def test_the_report_is_about_the_products(shop, finished):
    folder, _ = shop
    done, _ = finished

    page = (folder / "out" / "report.html").read_text()

    assert "product a" in page
    assert "Stanford Dogs" not in page
    assert f"report       file://{folder}/out/report.html" in done.stdout
    assert "of breeds" not in done.stdout


def test_other_labels_judge_the_stored_answers_anew_without_reading_an_image(shop, finished):
    folder, _ = shop
    _, before = finished
    source, destination = folder / "photos", folder / "out"
    record = json.loads((destination / "run.json").read_text())
    answers = before.set_index("image")["category"]
    pd.DataFrame({"image": answers.index, "class": answers}).to_parquet(folder / "flattering.parquet")

    flattered = run(str(source), str(destination), *options(folder, str(folder / "flattering.parquet")))
    after = pd.read_parquet(destination / "outcomes")
    again = json.loads((destination / "run.json").read_text())
    untold = run(str(source), str(destination), *options(folder, "none"))
    without = pd.read_parquet(destination / "outcomes")

    assert flattered.returncode == untold.returncode == 0, flattered.stderr + untold.stderr
    assert f"rescored     {len(before)} stored answers, by other labels; no image was read for it" in flattered.stdout
    assert "nothing to do" in flattered.stdout
    assert after["correct"].all()
    assert (after["class_index"] == before["class_index"]).all()
    assert again["accuracy"]["top1"]["value"] == 1.0
    assert again["labels"] != record["labels"]
    assert len(again["sessions"]) == len(record["sessions"])
    assert without["correct"].isna().all()
    assert without["truth_index"].isna().all()
    assert verify([str(destination), "--source", str(source)]) == 0


def test_a_wrong_pairing_is_refused_before_the_start(shop):
    folder, _ = shop
    (folder / "nine.txt").write_text("\n".join(PRODUCTS[:9]))
    (folder / "wrong.csv").write_text("image,class\n" + "".join(f"{i}.jpg,nothing {i}\n" for i in range(6)))
    source, destination = str(folder / "photos"), str(folder / "refused")
    weights = ["--weights", str(folder / "own.pth")]

    for given, words in [
        ([*MODEL, *weights], "the model tells 10 classes apart, and there are 1,000 categories"),
        ([*MODEL, *weights, "--categories", str(folder / "nine.txt")], "and there are 9 categories"),
        (options(folder, str(folder / "wrong.csv")), "no class of the model's is called 'nothing 0'"),
        (["--model", "mobilenet"], "--model mobilenet: torchvision has no classification model of this name"),
        ([*weights, "--categories", str(folder / "products.txt")], "do not fit resnet50"),
    ]:
        done = run(source, destination, *given)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not list((folder / "refused").rglob("*"))
