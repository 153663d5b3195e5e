"""The tasks of MovieLens 100K about what was watched: find the next film, or rank it among others.

A rating says that the film was watched, so every one is a positive, whatever its stars.
"""

from __future__ import annotations

import numpy as np

from recops.data.dataset import Dataset, Resampled, Split
from recops.data.example_age import example_age
from recops.data.movielens import MovieLens
from recops.data.movielens_ranking import AGE_BOUNDS, label
from recops.data.movielens_sequence import Earlier
from recops.data.negatives import sample_negatives

NEGATIVES = 4
TEST_NEGATIVES = 99

_TRAIN, _VALIDATION, _TEST = range(3)


def retrieval(
    data: MovieLens,
    max_length: int = 50,
    seed: int = 0,
    samples_per_user: int | None = None,
) -> Dataset:
    """The retrieval task of `movielens_100k` on any ratings in its form.

    The last film of each user is the test, the one before validation, all others train; see
    `in_time`. A row asks which film comes next; its inputs are

    - `item`: the film, which is the label. Ids stand in order of falling frequency in train, as the
      log-uniform sampler expects; 0 is a film that train does not have.
    - `hist_item` [max_length]: the latest films watched at an earlier second, oldest first, then 0.
      Those of the validation part count as soon as they are past.
    - `age` (in groups), `gender`, `occupation` of the user.
    - `example_age` [1]: time from the row to the last one of train over the span of train, so 0..1;
      0 in validation and test, as when serving.
    - `seen_item`, no feature, of validation and test: all films that the user watched before in the
      order of the split, which are no candidates.

    Users rate in bursts that share a second, and no history holds anything of its row's own second.
    The split is by each user's own time: a film's popularity in train has ratings by other users
    that came later than a test row.

    Args:
      max_length: steps of a history.
      seed: of the choice of samples.
      samples_per_user: train rows of every user, so that the active ones do not decide the model:
        that many at random, all of them again and again where there are fewer. None takes all.
    """
    from recops.features import DenseFeature, SequenceFeature, SparseFeature

    ratings = in_time(data.ratings)
    part = last_two(ratings)
    train = part == _TRAIN
    item, films = by_frequency(ratings[:, 1], train)
    user_id, time = ratings[:, 0], ratings[:, 3]
    place = np.searchsorted([user.id for user in data.users], user_id)
    traits = {
        "age": np.digitize([user.age for user in data.users], AGE_BOUNDS),
        "gender": np.array([user.gender for user in data.users]),
        "occupation": np.array([user.occupation for user in data.users]),
    }
    inputs: dict[str, np.ndarray] = {"item": item}
    features: list[SparseFeature | SequenceFeature | DenseFeature] = [
        SparseFeature("item", len(films) - 1),
        SequenceFeature("hist_item", len(films) - 1, max_length, target="item"),
    ]
    earlier = Earlier.of(ratings, item > 0, item)
    inputs["hist_item"] = earlier.latest(max_length)
    for name, values in traits.items():
        inputs[name], size = label(values[place], train)
        features.append(SparseFeature(name, size))
    features.append(DenseFeature("example_age"))
    inputs["example_age"] = np.zeros((len(item), 1), np.float32)
    inputs["example_age"][train, 0] = example_age(time[train])

    def take(rows: np.ndarray, **more: np.ndarray) -> Split:
        found = {name: values[rows] for name, values in inputs.items()}
        return Split({**found, **more}, np.ones(len(rows)), user_id[rows])

    chosen = np.flatnonzero(train)
    if samples_per_user is not None:
        chosen = _same_number(user_id[chosen], samples_per_user, seed, chosen)
    validation, test = np.flatnonzero(part == _VALIDATION), np.flatnonzero(part == _TEST)
    last = np.flatnonzero(np.append(user_id[1:] != user_id[:-1], True)[: len(user_id)])
    everything = np.arange(len(item)) >= 0
    return Dataset(
        take(chosen),
        take(validation, seen_item=_lists(user_id, item, train, user_id[validation])),
        take(test, seen_item=_lists(user_id, item, part != _TEST, user_id[test])),
        features,
        task="retrieval",
        serving=take(
            last,
            item=np.zeros(len(last), np.int32),
            hist_item=_latest(user_id, item, user_id[last], max_length),
            example_age=np.zeros((len(last), 1), np.float32),
            seen_item=_lists(user_id, item, everything, user_id[last]),
        ),
        values={"item": films},
    )


def leave_one_out(data: MovieLens, max_length: int = 0, seed: int = 0) -> Dataset:
    """The leave-one-out task of `movielens_100k` on any ratings in its form.

    Split and ids of films as in `retrieval`; features are `user` and `item`. Train has each film
    that a user watched with label 1, and for it 4 films with label 0 that the user does not watch
    in train, drawn anew for every epoch. Validation and test have, for each user, the film left out
    and 99 different films that the user never watched: 100 rows that stand together.

    Args:
      max_length: takes no part.
      seed: of the negatives of validation and test, and of the draw of train that is stored.

    Source: He et al., Neural Collaborative Filtering, WWW 2017, section 4.1.
    """
    from recops.features import SparseFeature

    ratings = in_time(data.ratings)
    part = last_two(ratings)
    train = part == _TRAIN
    item, films = by_frequency(ratings[:, 1], train)
    size = len(films) - 1
    user_id, user, people = ratings[:, 0], *label(ratings[:, 0], train)
    watched = {"user": user[train], "item": item[train], "group": user_id[train]}
    # By user: what is watched, once for each negative, and once for what no draw may be.
    own = _lists(user, item, train, np.arange(1, people + 1))
    wanted = np.repeat(own, NEGATIVES, axis=1)

    def rows(columns: dict[str, np.ndarray], candidates: np.ndarray) -> tuple[dict, tuple]:
        """Inputs, labels and groups of [N, candidates], whose first is the positive."""
        count = candidates.shape[1]
        labels = np.zeros(candidates.shape)
        labels[:, 0] = 1
        inputs = {"user": np.repeat(columns["user"], count), "item": candidates.reshape(-1)}
        return inputs, (labels.reshape(-1), np.repeat(columns["group"], count))

    def draw(seed: int, epoch: int) -> Split:
        state = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
        drawn = sample_negatives(wanted, vocabulary_size=size, exclude=own, seed=int(state))
        negatives = drawn[wanted > 0].reshape(-1, NEGATIVES)
        inputs, rest = rows(watched, np.concatenate([watched["item"][:, None], negatives], axis=1))
        return Split(inputs, *rest)

    def left_out(which: int) -> Split:
        chosen = part == which
        random = np.random.default_rng([seed, which])
        candidates = np.zeros((int(chosen.sum()), 1 + TEST_NEGATIVES), np.int32)
        candidates[:, 0] = item[chosen]
        for place, one in enumerate(user_id[chosen]):
            others = np.setdiff1d(np.arange(1, size + 1), item[user_id == one])
            if len(others) < TEST_NEGATIVES:
                raise ValueError(
                    f"leave_one_out: {TEST_NEGATIVES} films that user {one} has not watched are "
                    f"needed, got {len(others)}"
                )
            candidates[place, 1:] = random.permutation(others)[:TEST_NEGATIVES]
        columns = {"user": user[chosen], "group": user_id[chosen]}
        inputs, rest = rows(columns, candidates)
        return Split(inputs, *rest)

    validation, test = left_out(_VALIDATION), left_out(_TEST)
    first = draw(seed, 0)
    return Dataset(
        Resampled(first.inputs, first.labels, first.groups, draw),
        validation,
        test,
        [SparseFeature("user", people), SparseFeature("item", size)],
        task="leave_one_out",
        values={"item": films},
    )


def in_time(ratings: np.ndarray) -> np.ndarray:
    """The rows by user and time, those of one second in an order drawn once and for all.

    Three rows in four share their second with another of the user. By item id, the last film would
    be one of a high id, which are rare ones: no fair sample of what is watched.
    """
    chance = np.random.default_rng(0).random(len(ratings))
    return ratings[np.lexsort((chance, ratings[:, 3], ratings[:, 0]))]


def last_two(ratings: np.ndarray) -> np.ndarray:
    """0 for train; 2 for the last row of each user (test), 1 for the one before (validation).

    Of a user with fewer than 3 rows all are train.
    """
    _, first, count = np.unique(ratings[:, 0], return_index=True, return_counts=True)
    from_end = np.repeat(first + count, count) - np.arange(len(ratings))
    known = np.repeat(count, count) > 2
    return np.where(known & (from_end == 1), _TEST, np.where(known & (from_end == 2), 1, 0))


def by_frequency(values: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids [N] from 1 in order of falling frequency in train, and the value of each id [V + 1].

    Equal frequencies stand in order of value; 0 is what train does not have.
    """
    found, counts = np.unique(values[train], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(found), np.int32)
    rank[order] = np.arange(1, len(found) + 1)
    place, _ = label(values, train)
    return np.append(0, rank)[place].astype(np.int32), np.append(0, found[order])


def _same_number(users: np.ndarray, wanted: int, seed: int, rows: np.ndarray) -> np.ndarray:
    """`wanted` of the rows of each user."""
    random = np.random.default_rng(seed)
    return np.concatenate(
        [np.resize(random.permutation(rows[users == one]), wanted) for one in np.unique(users)]
    )


def _lists(
    owners: np.ndarray, items: np.ndarray, kept: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """[len(wanted), longest] the known items of each owner among the kept rows, then 0."""
    lists = [items[(owners == one) & kept & (items > 0)] for one in wanted]
    padded = np.zeros((len(lists), max(map(len, lists), default=0)), np.int32)
    for row, found in zip(padded, lists):
        row[: len(found)] = found
    return padded


def _latest(users: np.ndarray, items: np.ndarray, wanted: np.ndarray, length: int) -> np.ndarray:
    """[len(wanted), length] the latest items of each user, oldest first, then 0."""
    out = np.zeros((len(wanted), length), np.int32)
    for row, one in zip(out, wanted):
        found = items[(users == one) & (items > 0)][-length:]
        row[: len(found)] = found
    return out
