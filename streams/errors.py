"""The one distinction among errors that the whole program makes: is it for the person at the terminal, or is it a defect?"""


class UserError(Exception):
    """Something that the operator can put right. The message says what, where and what to do next.

    The command line shows the message alone and exits with status 2; any other exception is a defect and shows its traceback.
    """
