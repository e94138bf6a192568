"""Long labs as jobs: the queue, what runs a job in its process, and Dash's two background-callback managers.

`store` keeps small values for several processes, `line` decides who runs and who waits, `work` runs a lab's generator
inside the job's process, `managers` are Dash's own two with that queue, `process` and `worker` are where jobs run: one
process of this machine each, or Celery's.
"""
