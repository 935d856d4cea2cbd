"""Compiled loops of recall: the k best items of each user from sparse sums, and scores of single pairs.

Each works on rows `start` to `stop` of sparse matrices in CSR form (indptr, indices, values), without the GIL, so that
threads share the rows of a block. Memory grows with the items of one row, never with users × items. A row's result
depends on that row alone: the same for any split of the rows.
"""

import math

import numpy as np
from numba import njit

STRETCH = 32  # scores that are compared with the worst of a list at once

# Sums may be reordered, so that they vectorise; NaN and infinity keep their meaning.
jit = njit(cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, nogil=True, error_model="numpy")


@jit
def _is_worse(score, item, other_score, other_item):  # type: ignore[no-untyped-def]
    """Whether an item ranks after another: by score, ties by number."""
    return score < other_score or (score == other_score and item > other_item)


@jit
def push(scores, items, size, score, item):  # type: ignore[no-untyped-def]
    """Offer an item to a heap of the best ones, the worst of which is at 0; return the heap's size."""
    k = len(scores)
    if size < k:
        position = size
        size += 1
        while position > 0:
            parent = (position - 1) // 2
            if not _is_worse(score, item, scores[parent], items[parent]):
                break
            scores[position], items[position] = scores[parent], items[parent]
            position = parent
        scores[position], items[position] = score, item
        return size
    if k and _is_worse(scores[0], items[0], score, item):
        _sift_down(scores, items, size, score, item)
    return size


@jit
def _sift_down(scores, items, size, score, item):  # type: ignore[no-untyped-def]
    """Put an item in place of the heap's worst."""
    position = 0
    while True:
        child = 2 * position + 1
        if child >= size:
            break
        if child + 1 < size and _is_worse(scores[child + 1], items[child + 1], scores[child], items[child]):
            child += 1
        if not _is_worse(scores[child], items[child], score, item):
            break
        scores[position], items[position] = scores[child], items[child]
        position = child
    scores[position], items[position] = score, item


@jit
def sort_heap(scores, items, size):  # type: ignore[no-untyped-def]
    """Order the first `size` entries of a heap, best first; fill up with item −1 and score −inf."""
    for last in range(size - 1, 0, -1):
        score, item = scores[last], items[last]
        scores[last], items[last] = scores[0], items[0]
        _sift_down(scores, items, last, score, item)
    for position in range(size, len(scores)):
        scores[position], items[position] = -np.inf, -1


@jit
def _accumulate(row, indptr, indices, values, right_indptr, right_indices, right_values, sums, touched):  # type: ignore[no-untyped-def]
    """Add one row of the product left @ right to `sums` (zeros before); return how many columns are in `touched`."""
    count = 0
    for entry in range(indptr[row], indptr[row + 1]):
        middle, weight = indices[entry], values[entry]
        for other in range(right_indptr[middle], right_indptr[middle + 1]):
            column = right_indices[other]
            if sums[column] == 0.0:
                touched[count] = column
                count += 1
            sums[column] += weight * right_values[other]
    return count


@jit
def accumulate_common(row, indptr, indices, weight, right_indptr, right_indices, sums, touched):  # type: ignore[no-untyped-def]
    """Add the weights of what a row has in common with each column to `sums`, as `_accumulate` does for a product.

    Args:
        weight: of what rows and columns have in common, the middle of the product.
        right_indptr, right_indices: columns of each of the middle.
    """
    count = 0
    for entry in range(indptr[row], indptr[row + 1]):
        middle = indices[entry]
        for other in range(right_indptr[middle], right_indptr[middle + 1]):
            column = right_indices[other]
            if sums[column] == 0.0:
                touched[count] = column
                count += 1
            sums[column] += weight[middle]
    return count


@jit
def top_products(  # type: ignore[no-untyped-def]
    indptr, indices, values, right_indptr, right_indices, right_values, num_columns, chosen_indptr, chosen_indices,
    items, scores, moments, start, stop,
):  # fmt: skip
    """The best columns of left @ right, all of whose entries are positive, without the columns in `chosen`.

    Args:
        items: (rows, k) out, −1 where a row has fewer.
        scores: (rows, k) out.
        moments: (rows, 3) out: number, sum and sum of squares of the entries that are not chosen.
    """
    sums, touched = np.zeros(num_columns), np.empty(num_columns, np.int32)
    for row in range(start, stop):
        count = _accumulate(row, indptr, indices, values, right_indptr, right_indices, right_values, sums, touched)
        for entry in range(chosen_indptr[row], chosen_indptr[row + 1]):
            sums[chosen_indices[entry]] = 0.0
        best_scores, best_items = scores[row], items[row]  # outside of the loops: a view costs an atomic count
        size, number = 0, 0
        total, squares = np.float64(0), np.float64(0)
        for position in range(count):
            column = touched[position]
            score = np.float32(sums[column])  # as it is listed, so that moments are of the same numbers
            sums[column] = 0.0
            if score > 0:
                number += 1
                total += score
                squares += np.float64(score) * score
                size = push(best_scores, best_items, size, score, column)
        sort_heap(best_scores, best_items, size)
        moments[row, 0], moments[row, 1], moments[row, 2] = number, total, squares


@jit
def product_pairs(  # type: ignore[no-untyped-def]
    indptr, indices, values, right_indptr, right_indices, right_values, num_columns, items, scores, start, stop
):
    """Entries of left @ right at (row, items[row, …]); 0 where the item is −1."""
    sums, touched = np.zeros(num_columns), np.empty(num_columns, np.int32)
    for row in range(start, stop):
        count = _accumulate(row, indptr, indices, values, right_indptr, right_indices, right_values, sums, touched)
        for position in range(items.shape[1]):
            item = items[row, position]
            scores[row, position] = sums[item] if item >= 0 else 0.0
        for position in range(count):
            sums[touched[position]] = 0.0


@jit
def similar_rows(  # type: ignore[no-untyped-def]
    indptr, indices, user_weight, right_indptr, right_indices, counts, totals, shrink, is_cosine,
    items, scores, start, stop,
):  # fmt: skip
    """Rows (items) of XᵀDX divided by the norm of each pair, the most similar others of each; see `item_cf`.

    Args:
        indptr, indices: of Xᵀ (items, users).
        user_weight: (users,) the diagonal of D.
        right_indptr, right_indices: of X (users, items).
        counts: (items,) number of users of each.
        totals: (items,) the diagonal of XᵀDX.
        shrink: added to each norm.
        is_cosine: else Jaccard.
        items: (items, neighbours) out, −1 where there are fewer.
        scores: (items, neighbours) out.
    """
    sums, touched = np.zeros(len(counts)), np.empty(len(counts), np.int32)
    for row in range(start, stop):
        count = accumulate_common(row, indptr, indices, user_weight, right_indptr, right_indices, sums, touched)
        best_scores, best_items = scores[row], items[row]
        size = 0
        for position in range(count):
            column = touched[position]
            common = sums[column]
            sums[column] = 0.0
            if column != row:
                norm = totals[row] + totals[column] - common
                if is_cosine:
                    norm = math.sqrt(counts[row] * counts[column])
                size = push(best_scores, best_items, size, common / (norm + shrink), column)
        sort_heap(best_scores, best_items, size)


@jit
def gram_rows(indptr, indices, user_weight, right_indptr, right_indices, gram, start, stop):  # type: ignore[no-untyped-def]
    """Rows of XᵀDX, dense: gram (items, items) out, zeros before; `indptr` and `indices` are of Xᵀ (items, users)."""
    for row in range(start, stop):
        for entry in range(indptr[row], indptr[row + 1]):
            user = indices[entry]
            for other in range(right_indptr[user], right_indptr[user + 1]):
                gram[row, right_indices[other]] += user_weight[user]


@jit
def top_linear(  # type: ignore[no-untyped-def]
    indptr, indices, weights, scale, own, own_rows, own_diagonal, excluded_indptr, excluded_indices,
    items, scores, moments, start, stop,
):  # fmt: skip
    """The best columns of scale · (X @ weights) for sparse X of ones, without those in `excluded`.

    A row with `own` >= 0 is corrected for the user's own part in the model (see `user_ease`): with r = own_rows[own],
    (x·r / own_diagonal[own]) r is subtracted.

    Args:
        weights: (columns, columns).
        scale: (rows,).
        own: (rows,) position in `own_rows`, −1: no correction.
        items, scores, moments: as in `top_products`, over all columns that are not excluded.
    """
    num_columns = weights.shape[1]
    sums = np.empty(num_columns, np.float32)
    for row in range(start, stop):
        _linear_sums(row, indptr, indices, weights, scale, own, own_rows, own_diagonal, sums)
        for entry in range(excluded_indptr[row], excluded_indptr[row + 1]):
            sums[excluded_indices[entry]] = 0.0
        total, squares = 0.0, 0.0
        for column in range(num_columns):
            total += sums[column]
            squares += np.float64(sums[column]) * sums[column]
        for entry in range(excluded_indptr[row], excluded_indptr[row + 1]):
            sums[excluded_indices[entry]] = -np.inf
        best_scores, best_items = scores[row], items[row]
        size = 0
        for column in range(num_columns):
            score = sums[column]
            # Columns ascend, so one that equals the heap's worst ranks after it.
            if score > -np.inf and (size < len(best_scores) or score > best_scores[0]):
                size = push(best_scores, best_items, size, score, column)
        sort_heap(best_scores, best_items, size)
        moments[row, 0] = num_columns - (excluded_indptr[row + 1] - excluded_indptr[row])
        moments[row, 1], moments[row, 2] = total, squares


@jit
def _linear_sums(row, indptr, indices, weights, scale, own, own_rows, own_diagonal, sums):  # type: ignore[no-untyped-def]
    sums[:] = 0.0
    for entry in range(indptr[row], indptr[row + 1]):
        sums += weights[indices[entry]]
    if own[row] >= 0:
        own_row = own_rows[own[row]]
        sums -= np.float32(_own_weight(row, indptr, indices, own, own_rows, own_diagonal)) * own_row
    sums *= scale[row]


@jit
def _own_weight(row, indptr, indices, own, own_rows, own_diagonal):  # type: ignore[no-untyped-def]
    total = 0.0
    for entry in range(indptr[row], indptr[row + 1]):
        total += own_rows[own[row], indices[entry]]
    return total / own_diagonal[own[row]]


@jit
def linear_pairs(  # type: ignore[no-untyped-def]
    indptr, indices, weights, scale, own, own_rows, own_diagonal, items, scores, start, stop
):
    """The scores of `top_linear` at (row, items[row, …]); −inf where the item is −1."""
    width = items.shape[1]
    sums = np.empty(width, np.float32)
    for row in range(start, stop):
        sums[:] = 0.0
        # A row of the weights at a time: its entries are beside each other in memory. Item −1 reads the last column.
        for entry in range(indptr[row], indptr[row + 1]):
            line = weights[indices[entry]]
            for position in range(width):
                sums[position] += line[items[row, position]]
        if own[row] >= 0:
            own_weight = np.float32(_own_weight(row, indptr, indices, own, own_rows, own_diagonal))
            line = own_rows[own[row]]
            for position in range(width):
                sums[position] -= own_weight * line[items[row, position]]
        for position in range(width):
            scores[row, position] = sums[position] * scale[row] if items[row, position] >= 0 else -np.inf


@jit
def top_of_row(matrix, first, items, scores, chosen_indptr, chosen_indices, start, stop):  # type: ignore[no-untyped-def]
    """The best columns of each row of a dense block (rows, columns), which is overwritten at `chosen`.

    Args:
        matrix: (rows, columns), rows `start` to `stop` of the batch and on.
        first: number of the block's first row in the batch.
        items, scores: (rows of the batch, k) out.
    """
    for row in range(start, stop):
        sums, best_scores, best_items = matrix[row - first], scores[row], items[row]
        for entry in range(chosen_indptr[row], chosen_indptr[row + 1]):
            sums[chosen_indices[entry]] = -np.inf
        size, k = 0, len(best_scores)
        for column in range(len(sums)):
            score = sums[column]
            if score > -np.inf and (size < k or score > best_scores[0]):
                size = push(best_scores, best_items, size, score, column)
        sort_heap(best_scores, best_items, size)


@jit
def push_tile(tile, first_row, first_column, items, scores, sizes, chosen_indptr, chosen_indices):  # type: ignore[no-untyped-def]
    """Offer the entries of a tile (rows, columns) of all scores to each row's heap, but for what the row chose.

    Args:
        tile: scores of rows from `first_row` and columns from `first_column` on.
        items, scores: (all rows, k) the heaps.
        sizes: (all rows,) entries of each.
    """
    k = items.shape[1]
    for tile_row in range(len(tile)):
        row = first_row + tile_row
        sums, best_scores, best_items, size = tile[tile_row], scores[row], items[row], sizes[row]
        for start in range(0, len(sums), STRETCH):
            stretch = sums[start : start + STRETCH]
            if size == k and not _count_above(stretch, best_scores[0]):
                continue
            for position in range(len(stretch)):
                score = stretch[position]
                if size == k and not score > best_scores[0]:
                    continue
                column = first_column + start + position
                # Few get here: a search in the history costs less than marks of all items.
                is_chosen = False
                for entry in range(chosen_indptr[row], chosen_indptr[row + 1]):
                    is_chosen |= chosen_indices[entry] == column
                if not is_chosen:
                    size = push(best_scores, best_items, size, score, column)
        sizes[row] = size


@jit
def _count_above(values, bound):  # type: ignore[no-untyped-def]
    """How many values are larger than a bound; without a branch, so it vectorises."""
    count = 0
    for value in values:
        count += value > bound
    return count


@jit
def sort_heaps(items, scores, sizes):  # type: ignore[no-untyped-def]
    """`sort_heap` for each row."""
    for row in range(len(items)):
        sort_heap(scores[row], items[row], sizes[row])


@jit
def vector_pairs(users, vectors, items, scores, start, stop):  # type: ignore[no-untyped-def]
    """Inner products of users' vectors with those of items[row, …]; −inf where the item is −1.

    One sum in one order for each pair, unlike a matrix product, whose rounding depends on the rows beside it.
    """
    for row in range(start, stop):
        for position in range(items.shape[1]):
            item = items[row, position]
            if item < 0:
                scores[row, position] = -np.inf
                continue
            total = 0.0
            for column in range(users.shape[1]):
                total += users[row, column] * vectors[item, column]
            scores[row, position] = total


@jit
def sort_lists(items, scores, start, stop):  # type: ignore[no-untyped-def]
    """Order lists (rows, k) anew by their scores, best first, ties by item; −1 last."""
    k = items.shape[1]
    for row in range(start, stop):
        # By insertion: the lists are nearly in order.
        for position in range(1, k):
            score, item, place = scores[row, position], items[row, position], position
            while place > 0 and _is_worse(scores[row, place - 1], items[row, place - 1], score, item):
                scores[row, place], items[row, place] = scores[row, place - 1], items[row, place - 1]
                place -= 1
            scores[row, place], items[row, place] = score, item


@jit
def chosen_moments(users, vectors, indptr, indices, sums, start, stop):  # type: ignore[no-untyped-def]
    """(rows, 2) out: sum and sum of squares of the inner products with a row's chosen items."""
    for row in range(start, stop):
        first, second = 0.0, 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            total = 0.0
            for column in range(users.shape[1]):
                total += users[row, column] * vectors[indices[entry], column]
            first += total
            second += total * total
        sums[row, 0], sums[row, 1] = first, second
