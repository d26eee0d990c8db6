"""Uploads and jobs: database, queue, worker, storage."""
