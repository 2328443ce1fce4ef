"""The locations of background jobs: `path("tidings/jobs/", include("tidings.contrib.django.urls"))`."""

from django.urls import path

from tidings.contrib.django.background import NAME, location

urlpatterns = [path("<str:job_id>", location, name=NAME)]
