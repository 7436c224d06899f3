"""The pages.

Every page is whole without a script: forms post to it and are answered with a redirect, or with the page again and the
refusal on it. ``static/mlmp.js`` makes the same forms and pages live.
"""
