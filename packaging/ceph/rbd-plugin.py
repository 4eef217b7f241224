# SPDX-License-Identifier: BSD-3-Clause
"""A plugin for nbdkit's python plugin that serves one image of Ceph RBD, and
lets no other host write to it.

    nbdkit --filter=wtcache python rbd-plugin.py image=POOL/NAME

It opens the image once, for all connections, with the first one that may
write; from then until nbdkit ends it holds the exclusive lock of the image. It
asks for the lock by itself, so librbd does not hand it over to another client,
as it does otherwise: what others write is refused. It is kept when the last
client has left, since the cache is, too. With nbdkit -r there is no lock, and
POOL/NAME@SNAPSHOT may be served.

The bindings let go of Python's lock while they wait, so that many requests
are under way at once. librbd's own cache is off: there is one in front, and
without it a write is answered when the cluster has stored it, as FUA asks.
conf=FILE names another configuration than Ceph would find.
"""

import errno
import os
import threading

import nbdkit
import rados
import rbd

API_VERSION = 2

parameters = {"image": None, "conf": ""}
opening = threading.Lock()
images = {}     # by whether it is read-only
cluster = None


def config(key, value):
    if key not in parameters:
        raise RuntimeError("rbd: unknown parameter " + key)
    parameters[key] = value


def config_complete():
    if not parameters["image"] or "/" not in parameters["image"]:
        raise RuntimeError("rbd: image=POOL/NAME is missing")


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def open_image(readonly):
    global cluster
    if cluster is None:
        connected = rados.Rados(conffile=parameters["conf"])
        connected.conf_set("rbd_cache", "false")
        connected.connect()
        cluster = connected
    pool, _, name = parameters["image"].partition("/")
    name, _, snapshot = name.partition("@")
    image = rbd.Image(cluster.open_ioctx(pool), name, snapshot or None,
                      read_only=readonly)
    if not readonly:
        try:
            image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
        except Exception as error:
            image.close()
            raise RuntimeError(
                "rbd: %s: cannot get the exclusive lock, another host may "
                "write to it: %s" % (parameters["image"], error)) from None
    return image


def open(readonly):
    with opening:
        if readonly not in images:
            images[readonly] = open_image(readonly)
        return images[readonly]


def cleanup():
    for image in images.values():
        image.close()
    if cluster is not None:
        cluster.shutdown()


def call(function, *arguments):
    """Calls it; its errno is that of the request."""
    try:
        return function(*arguments)
    except rbd.OSError as error:
        nbdkit.set_error(error.errno or errno.EIO)
        raise


def get_size(image):
    return image.size()


def can_multi_conn(_image):
    return True


def can_fua(_image):
    return nbdkit.FUA_NATIVE


def can_fast_zero(_image):
    return False


def pread(image, buffer, offset, _flags):
    buffer[:] = call(image.read, offset, len(buffer))


def pwrite(image, buffer, offset, _flags):
    call(image.write, bytes(buffer), offset)


def zero(image, count, offset, _flags):
    call(image.write_zeroes, offset, count)


def trim(image, count, offset, _flags):
    call(image.discard, offset, count)


def flush(image, _flags):
    call(image.flush)
