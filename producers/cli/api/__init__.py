"""`conveyor api`: the ComfyUI Deploy API itself on the command line, one file a resource.

For people who keep workflows, deployments and machines. Jobs go through `conveyor enqueue`, which loses none and pays
once; what is here asks the API and prints what it says. Every call pays a token of the budget that workers use, too.
"""
