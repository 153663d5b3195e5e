"""GBDT + LR: trees that find crosses, and a logistic regression over their leaves."""

from __future__ import annotations

import importlib.util
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recops._core.whole import writing

try:
    import sklearn
    from scipy.optimize import minimize
    from scipy.special import expit
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import TargetEncoder
    from sklearn.utils.fixes import parse_version
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_is_fitted,
        check_random_state,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        f"GBDTLR: needs scikit-learn 1.6 or later ({error}): pip install 'recops[gbdt]'"
    ) from error

BOOSTERS = ("auto", "lightgbm", "sklearn")


class GBDTLR(ClassifierMixin, BaseEstimator):
    """Gradient boosted trees whose leaves are the features of a logistic regression.

        p = sigmoid(b + sum_t w_t[leaf_t(x)])

    The trees are fitted on one part of the rows and the regression on the others: leaves are pure
    on the rows that grew them, and a regression on the same rows would trust them too much.

    A leaf is an id, one of each tree, and the regression an embedding of dimension 1 that is summed
    over the trees. No one-hot matrix is made.

    Args:
      n_estimators, learning_rate: number of trees and their shrinkage.
      max_leaves, max_depth: most leaves and levels of a tree.
      min_samples_leaf: fewest rows of a leaf.
      subsample: share of the rows that each tree sees.
      lr_fraction: share of the rows for the regression; the trees get the others. Both have about
        the same share of each class.
      C: inverse strength of the regression's L2 penalty, as in scikit-learn's LogisticRegression.
      categorical_features: columns of X that hold ids (user, item). Each becomes the id's smoothed
        mean label by `TargetEncoder`, fitted on the rows of the trees and for each of these on
        other rows than itself.
      passthrough: whether the regression sees these ids as well, one embedding an id, beside the
        leaves. The paper's sees leaves alone; where ids are many, trees cannot tell them all apart.
      booster: "lightgbm", "sklearn" (GradientBoostingClassifier), or "auto": LightGBM where it is
        installed.
      random_state: of the split, the subsamples and the encoder.

    Defaults: n_estimators=100, learning_rate=0.1, max_leaves=16, max_depth=6, min_samples_leaf=20,
    subsample=1.0, lr_fraction=0.5, C=1.0, passthrough=False, booster="auto".

    Call: `fit(X, y, sample_weight=None)` with X [N, n] numbers and y [N] of two classes;
    `predict_proba(X)` [N, 2] float64, `decision_function(X)` [N] logits, `predict(X)` [N] classes,
    `apply(X)` [N, trees] leaf ids, `save(path)`, and `GBDTLR.load(path)`.

    Attributes: classes_, booster_ (name), trees_, embedding_ [leaves and ids] and intercept_,
    tree_rows_ and lr_rows_, the rows that each part was fitted on.

    Raises: ImportError without scikit-learn, or for booster="lightgbm" without LightGBM; ValueError
    for other input or options, as scikit-learn does.

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> x = rng.normal(size=(600, 2))
      >>> model = GBDTLR(n_estimators=20, booster="sklearn", random_state=0)
      >>> model.fit(x[:400], x[:400, 0] * x[:400, 1] > 0).score(x[400:], x[400:].prod(1) > 0) > 0.9
      True
    """

    def __init__(
        self,
        n_estimators: int = 100,
        learning_rate: float = 0.1,
        max_leaves: int = 16,
        max_depth: int = 6,
        min_samples_leaf: int = 20,
        subsample: float = 1.0,
        lr_fraction: float = 0.5,
        C: float = 1.0,
        categorical_features: Sequence[int] | None = None,
        passthrough: bool = False,
        booster: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_leaves = max_leaves
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.subsample = subsample
        self.lr_fraction = lr_fraction
        self.C = C
        self.categorical_features = categorical_features
        self.passthrough = passthrough
        self.booster = booster
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GBDTLR:
        """Fit the trees on one part of the rows and the regression on the others."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        booster = self._checked_booster()
        check_classification_targets(y)
        self.classes_, label = np.unique(y, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(
                f"Only binary classification is supported. The type of the target is "
                f"{type_of_target(y)}."
            )
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        used = weight > 0
        if len(self.classes_) < 2 or len(np.unique(label[used])) < 2:
            raise ValueError(
                f"GBDTLR: needs rows of two classes, got one class in n_samples={len(X)}"
            )
        random = check_random_state(self.random_state)
        self.tree_rows_, self.lr_rows_ = self._parts(label, np.flatnonzero(used), random)
        given, X = X, self._encoded(X, label, random)
        grown = self.tree_rows_
        self.booster_ = booster
        self.trees_ = self._grown(booster, X[grown], label[grown], weight[grown], random)
        self._ids = _LeafIds(_leaves(self.trees_, X))
        rows = self.lr_rows_
        self.embedding_, self.intercept_ = _regression(
            self._embedded(self._ids(_leaves(self.trees_, X[rows])), given[rows]),
            self._ids.rows + sum(len(known) + 1 for known in self._known),
            label[rows],
            weight[rows],
            self.C,
        )
        return self

    def apply(self, X: Any) -> np.ndarray:
        """The leaf that each row falls into: [N, trees] ids from 0, over all trees."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        if self._encoder is not None:
            X = self._joined(X, self._encoder.transform(X[:, self._columns]))
        return self._ids(_leaves(self.trees_, X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits, [N]: the sum of the leaves' embeddings."""
        ids = self._embedded(self.apply(X), np.asarray(X))
        return self.intercept_ + self.embedding_[ids].sum(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the two classes, [N, 2]."""
        positive = expit(self.decision_function(X))
        return np.stack([1 - positive, positive], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The more probable class, [N]."""
        positive = self.decision_function(X) > 0
        return self.classes_[positive.astype(int)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file, by pickle."""
        check_is_fitted(self)
        with writing(Path(path).expanduser()) as file:
            file.write_bytes(pickle.dumps(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GBDTLR:
        """Read what `save` wrote. As every pickle it can run code: load only files you trust.

        Raises: ValueError when the file is none of these; ImportError where a package lacks.
        """
        try:
            found = pickle.loads(Path(path).expanduser().read_bytes())
        except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, ValueError) as error:
            raise ValueError(
                f"GBDTLR.load: {path} is no whole file of GBDTLR.save ({error})"
            ) from None
        if not isinstance(found, cls):
            raise ValueError(f"GBDTLR.load: {path} holds a {type(found).__name__}, no GBDTLR")
        return found

    def _checked_booster(self) -> str:
        for name in ("lr_fraction", "C"):
            value = getattr(self, name)
            if not value > 0 or (name == "lr_fraction" and not value < 1):
                bound = "above 0" if name == "C" else "between 0 and 1"
                raise ValueError(f"GBDTLR: {name} must be {bound}, got {value!r}")
        if self.booster not in BOOSTERS:
            raise ValueError(
                f"GBDTLR: booster must be one of {', '.join(BOOSTERS)}, got {self.booster!r}"
            )
        installed = importlib.util.find_spec("lightgbm") is not None
        if self.booster == "lightgbm" and not installed:
            raise ImportError(
                "GBDTLR: booster 'lightgbm' needs the package lightgbm: pip install 'recops[gbdt]'"
            )
        if self.booster == "auto":
            return "lightgbm" if installed else "sklearn"
        return self.booster

    def _parts(self, label: np.ndarray, used: np.ndarray, random: Any) -> list[np.ndarray]:
        """Rows of the trees and of the regression; each class is shared out alike."""
        parts: list[list[np.ndarray]] = [[], []]
        for which in (0, 1):
            rows = random.permutation(used[label[used] == which])
            count = int(np.clip(round(len(rows) * self.lr_fraction), 1, max(len(rows) - 1, 1)))
            if len(rows) < 2:
                raise ValueError(
                    f"GBDTLR: needs two rows of each class, one for the trees and one for the "
                    f"regression, got {len(rows)} of {self.classes_[which]!r} (n_samples = "
                    f"{len(label)})"
                )
            parts[0].append(rows[count:])
            parts[1].append(rows[:count])
        return [np.sort(np.concatenate(part)) for part in parts]

    def _encoded(self, X: np.ndarray, label: np.ndarray, random: Any) -> np.ndarray:
        self._encoder = None
        self._known: list[np.ndarray] = []
        if self.categorical_features is None or not len(self.categorical_features):
            return X
        self._columns = np.asarray(self.categorical_features)
        if (
            self._columns.dtype.kind not in "iu"
            or not np.isin(self._columns, np.arange(X.shape[1])).all()
        ):
            raise ValueError(
                f"GBDTLR: categorical_features must be columns 0..{X.shape[1] - 1}, got "
                f"{list(self.categorical_features)}"
            )
        self._encoder = _target_encoder(random.randint(2**31 - 1))
        # The labels of the regression's rows must not reach what it reads: the trees' inputs.
        ids, grown = X[:, self._columns], self.tree_rows_
        encoded = np.empty(ids.shape)
        encoded[grown] = self._encoder.fit_transform(ids[grown], label[grown])
        others = np.setdiff1d(np.arange(len(X)), grown)
        encoded[others] = self._encoder.transform(ids[others])
        if self.passthrough:
            self._known = [np.unique(column) for column in ids[self.lr_rows_].T]
        return self._joined(X, encoded)

    def _embedded(self, leaves: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Rows of the embedding: those of the leaves, and of the ids that are passed through."""
        columns, begin = [leaves], self._ids.rows
        for column, known in zip(self._columns if self._known else (), self._known):
            values = X[:, column]
            place = np.minimum(np.searchsorted(known, values), len(known) - 1)
            # The first row is of ids that are new, and stays 0.
            row = np.where(known[place] == values, place + 1, 0) + begin
            columns.append(row[:, None])
            begin += len(known) + 1
        return np.concatenate(columns, axis=1)

    def _joined(self, X: np.ndarray, encoded: np.ndarray) -> np.ndarray:
        X = X.copy()
        X[:, self._columns] = encoded
        return X

    def _grown(
        self, booster: str, X: np.ndarray, y: np.ndarray, weight: np.ndarray, random: Any
    ) -> Any:
        seed = random.randint(2**31 - 1)
        if booster == "sklearn":
            return GradientBoostingClassifier(
                n_estimators=self.n_estimators,
                learning_rate=self.learning_rate,
                max_leaf_nodes=self.max_leaves,
                max_depth=self.max_depth,
                min_samples_leaf=self.min_samples_leaf,
                subsample=self.subsample,
                random_state=seed,
            ).fit(X, y, sample_weight=weight)
        import lightgbm

        return lightgbm.train(
            {
                "objective": "binary",
                "learning_rate": self.learning_rate,
                "num_leaves": self.max_leaves,
                "max_depth": self.max_depth,
                "min_data_in_leaf": self.min_samples_leaf,
                "bagging_fraction": self.subsample,
                "bagging_freq": int(self.subsample < 1),
                "seed": seed,
                "deterministic": True,
                "force_col_wise": True,
                "verbosity": -1,
            },
            lightgbm.Dataset(X, y, weight=weight),
            num_boost_round=self.n_estimators,
        )


class _LeafIds:
    """Rows of one table for the leaves of all trees.

    Made from all rows of `fit`, those that grew the trees among them, so that no leaf is new later.
    """

    def __init__(self, leaves: np.ndarray) -> None:
        widths = leaves.max(axis=0, initial=0) + 1
        self.offsets = np.cumsum(widths) - widths
        self.rows = int(widths.sum())

    def __call__(self, leaves: np.ndarray) -> np.ndarray:
        return leaves + self.offsets


def _target_encoder(seed: int) -> TargetEncoder:
    # scikit-learn 1.9 takes the folds themselves, and warns of the seed that it took before.
    if parse_version(sklearn.__version__) < parse_version("1.9"):
        return TargetEncoder(target_type="binary", random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return TargetEncoder(target_type="binary", cv=folds)


def _leaves(trees: Any, X: np.ndarray) -> np.ndarray:
    """Which leaf of each tree, [N, trees] int64."""
    if isinstance(trees, GradientBoostingClassifier):
        found = trees.apply(X)[:, :, 0]
    else:
        found = trees.predict(X, pred_leaf=True)
    return np.asarray(found).reshape(len(X), -1).astype(np.int64)


def _regression(
    ids: np.ndarray, rows: int, label: np.ndarray, weight: np.ndarray, C: float
) -> tuple[np.ndarray, float]:
    """Logistic regression over summed embeddings of dimension 1, by L-BFGS.

    C sum_n weight_n crossentropy_n + |w|^2 / 2
    """

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        table, bias = parameters[:-1], parameters[-1]
        logits = table[ids].sum(axis=1) + bias
        lost = np.logaddexp(0, logits) - label * logits
        slope = weight * (expit(logits) - label)
        to_table = np.bincount(ids.ravel(), np.repeat(slope, ids.shape[1]), minlength=rows)
        gradient = np.append(C * to_table + table, C * slope.sum())
        return C * float(weight @ lost) + float(table @ table) / 2, gradient

    found = minimize(
        loss,
        np.zeros(rows + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-5},
    )
    return found.x[:-1], float(found.x[-1])
