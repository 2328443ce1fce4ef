"""Background jobs: a view answers 202 at once, and its function runs in a thread or a Celery task.

    from tidings.contrib.background import job

    @app.post("/reports")
    @push.background
    def report():
        for number, page in enumerate(pages):
            job.progress(number / len(pages), "rendering")
            …
        return {"url": …}, 201

`job` is the job that the calling code runs in. docs/background-jobs.md has the rest.
"""

from tidings.contrib.background.current import CurrentJob, job
from tidings.contrib.background.job import JobCancelled
from tidings.contrib.background.sql_table import jobs_table

__all__ = ["CurrentJob", "JobCancelled", "job", "jobs_table"]
