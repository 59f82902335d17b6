"""Project folders: nothing in them differs from one conversion to the next."""

from pathlib import Path

import pytest
import yaml

from kerasnac.adapters.hls4ml.project_files import PROJECT, STAMP, make_movable


@pytest.mark.parametrize("stamp", ["12345678", "1a2b3c4d"])  # YAML quotes the first one
def test_the_random_stamp_leaves_no_trace(stamp: str, tmp_path: Path) -> None:
    (tmp_path / "build_lib.sh").write_text(f"CC=g++\nLIB_STAMP={stamp}\n")
    config = tmp_path / "hls4ml_config.yml"
    config.write_text(yaml.dump({"ProjectName": PROJECT, "Stamp": stamp}))
    make_movable(tmp_path, stamp)
    assert config.read_text() == f"ProjectName: {PROJECT}\nStamp: {STAMP}\n"
    assert f"LIB_STAMP={STAMP}" in (tmp_path / "build_lib.sh").read_text()
