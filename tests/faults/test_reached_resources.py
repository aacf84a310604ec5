"""Resources of TensorFlow that are no variables, which a call uses: what they hold is afterwards what it was."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from scaling import ONE, VERBS, Scaling, model_of

from keras_ref import check_gradients, check_layer
from keras_ref.errors import BadInput


def built(use):
    layer = Scaling(use)
    model = model_of(layer)
    model(ONE)
    return layer, model


def held_by(table):
    """{key: value} of a table; a dense one exports all its places."""
    keys, values = (part.numpy() for part in table.export())
    empty = [tf.constant(getattr(table, name, 0)).numpy() for name in ("_empty_key", "_deleted_key")]
    is_key = [isinstance(table, tf.lookup.experimental.MutableHashTable) or key not in empty for key in keys]
    return {str(key): str(value) for key, value, is_one in zip(keys, values, is_key, strict=True) if is_one}


def table_of_texts():
    table = tf.lookup.experimental.MutableHashTable("string", "int64", default_value=-1)
    table.insert(["a", "b"], [1, 2])

    def use():
        table.insert(["c", "a"], table.lookup(["c", "a"]) + 1)
        table.remove(tf.constant(["b"]))

    return use, lambda: held_by(table)


def table_of_rows():
    table = tf.lookup.experimental.MutableHashTable("int64", "float32", default_value=[0.0, 0.0])
    use = lambda: table.insert(  # noqa: E731
        tf.constant([1, 2], "int64"), table.lookup(tf.constant([1, 2], "int64")) + 1.0
    )
    return use, lambda: held_by(table)


def dense_table():
    table = tf.lookup.experimental.DenseHashTable(
        "int64", "float32", default_value=[0.0, -0.0], empty_key=-1, deleted_key=-2, initial_num_buckets=8
    )
    table.insert(tf.constant([1, 2], "int64"), [[1.0, 2.0], [3.0, 4.0]])

    def use():
        table.insert(tf.constant([7, 2], "int64"), table.lookup(tf.constant([7, 2], "int64")) + 1.0)
        table.remove(tf.constant([1], "int64"))

    return use, lambda: held_by(table)


def dense_table_of_texts():
    table = tf.lookup.experimental.DenseHashTable(
        "string", "int64", default_value=-1, empty_key="", deleted_key="deleted", initial_num_buckets=8
    )
    return lambda: table.insert(["a"], table.lookup(["a"]) + 1), lambda: held_by(table)


def table_in_a_traced_function():
    """A concrete function holds the handle of the table itself."""
    use, read = table_of_texts()
    return tf.function(use).get_concrete_function(), read


def table_in_python_that_a_graph_calls():
    table = tf.lookup.experimental.MutableHashTable("int64", "int64", default_value=0)

    def python(x):
        one = tf.constant([1], "int64")
        table.insert(one, table.lookup(one) + 1)
        return x

    return lambda: tf.py_function(python, [1.0], "float32"), lambda: held_by(table)


def place_of(iterator, count=3):
    """What an iterator gives next; it gives it again."""
    place = tf.raw_ops.SerializeIterator(resource_handle=iterator._iterator_resource, external_state_policy=2)
    found = [int(next(iterator)) for _ in range(count)]
    tf.raw_ops.DeserializeIterator(resource_handle=iterator._iterator_resource, serialized=place)
    return found


def iterator():
    found = iter(tf.data.Dataset.range(10**6).shuffle(8, seed=3).prefetch(2))
    next(found)
    return lambda: next(found), lambda: place_of(found)


def iterator_by_its_method():
    found = iter(tf.data.Dataset.range(10**6))
    return lambda: found.get_next_as_optional().has_value(), lambda: place_of(found)


#: makes a function that changes a resource, and one that reads what it holds
RESOURCES = (
    table_of_texts, table_of_rows, dense_table, dense_table_of_texts, table_in_a_traced_function,
    table_in_python_that_a_graph_calls, iterator, iterator_by_its_method,
)  # fmt: skip


def require_kept(make, *verbs):
    use, read = make()
    layer, model = built(use)
    before = read()
    model(ONE)
    assert read() != before
    before = read()
    for verb in verbs:
        VERBS[verb](layer, model)
        assert read() == before


@pytest.mark.parametrize("make", RESOURCES, ids=lambda make: make.__name__)
def test_a_resource_holds_what_it_held(make):
    require_kept(make, "layer")


@pytest.mark.sampled
@pytest.mark.parametrize("make", RESOURCES, ids=lambda make: make.__name__)
def test_a_resource_in_every_verb(make):
    require_kept(make, *VERBS)


def iterator_of_a_generator():
    return iter(tf.data.Dataset.from_generator(lambda: iter(range(10**6)), output_signature=tf.TensorSpec((), "int64")))


def queue():
    found = tf.queue.FIFOQueue(10**6, ["float32"])
    found.enqueue_many([tf.range(8.0)])
    return found


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("eagerly", [True, False])
def test_a_queue_is_refused_before_anything_is_taken(verb, eagerly):
    found = queue()
    layer, model = built(lambda: None)
    layer.write = found.dequeue
    tf.config.run_functions_eagerly(run_eagerly=eagerly)
    try:
        with pytest.raises(
            BadInput, match=r"^A call must not use what a check cannot put back\. Received: .*FIFOQueue"
        ):
            VERBS[verb](layer, model)
    finally:
        tf.config.run_functions_eagerly(run_eagerly=False)
    assert [float(found.dequeue()) for _ in range(8)] == [*range(8)]


def test_an_iterator_whose_place_cannot_be_saved_is_refused():
    found = iterator_of_a_generator()
    layer, model = built(lambda: None)
    layer.write = lambda: next(found)
    with pytest.raises(BadInput, match=r"^What a call takes from an iterator must go back .* cannot be saved"):
        check_gradients(model, ONE, ONE)
    assert int(next(found)) == 0


def test_data_that_are_given_as_an_iterator_are_taken():
    """They are meant to be: the next check has the next batch."""
    model = built(lambda: None)[1]
    for data in (
        iter(tf.data.Dataset.from_tensor_slices((np.ones((6, 1)), np.ones((6, 1)))).batch(2)),
        iter(tf.data.Dataset.from_generator(lambda: iter([(ONE, ONE)] * 3),
             output_signature=(tf.TensorSpec((1, 1)), tf.TensorSpec((1, 1))))),
    ):  # fmt: skip
        assert check_gradients(model, data).ok
        assert len([*data]) == 2


def test_what_a_call_makes_itself_is_its_own():
    """A queue and an iterator that a call makes and uses up are nobody's afterwards."""

    def use():
        with tf.init_scope():
            own = tf.queue.FIFOQueue(2, ["float32"])
            own.enqueue(1.0)
            own.dequeue()
            next(iter(tf.data.Dataset.from_generator(lambda: iter([1.0]), output_signature=tf.TensorSpec(()))))

    assert check_layer(built(use)[0], ONE).ok


def test_another_thread_goes_on():
    """A table and a queue that it uses are left alone."""
    table, found, done = tf.lookup.experimental.MutableHashTable("int64", "int64", 0), queue(), threading.Event()
    taken = []

    def work():
        one = tf.constant([1], "int64")
        while not done.is_set():
            table.insert(one, table.lookup(one) + 1)
            found.enqueue(found.dequeue())
            taken.append(1)
            done.wait(0.001)

    thread = threading.Thread(target=work)
    layer = built(lambda: None)[0]
    thread.start()
    try:
        before = len(taken)
        assert check_layer(layer, ONE).ok
    finally:
        done.set()
        thread.join()
    assert len(taken) > before + 3  # or nothing was tried
    assert int(table.lookup(tf.constant([1], "int64"))[0]) == len(taken)


def test_no_summary_is_written(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))

    def use():
        with writer.as_default(step=1):
            tf.summary.write("calls", 1.0)

    def size():
        writer.flush()
        return sum(path.stat().st_size for path in tmp_path.iterdir())

    before = size()
    layer, model = built(use)
    assert size() > before
    before = size()
    for check in VERBS.values():
        check(layer, model)
    assert size() == before
    layer(ONE)
    assert size() > before


def test_afterwards_tensorflow_is_what_it_was():
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator
    from tensorflow.python.ops import summary_ops_v2
    from tensorflow.python.ops.data_flow_ops import QueueBase
    from tensorflow.python.trackable.resource import CapturableResource

    def state():
        classes = {one: dict(vars(one)) for one in (OwnedIterator, QueueBase, CapturableResource)}
        return classes, summary_ops_v2._should_record_summaries_internal

    before = state()
    check_layer(built(lambda: None)[0], ONE)
    assert state() == before
