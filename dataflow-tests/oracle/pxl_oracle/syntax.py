"""PxL text to a restricted Python tree: the comma leniency, then only what PxL knows."""

import ast
import io
import keyword
import tokenize

from .values import PxlError

_ENDS = {")", "]", "}"}
_BINARY = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide",
           ast.Mod: "modulo"}
_COMPARE = {ast.Eq: "equal", ast.NotEq: "notEqual", ast.Lt: "lessThan", ast.LtE: "lessThanEqual",
            ast.Gt: "greaterThan", ast.GtE: "greaterThanEqual"}
_UNARY = {ast.USub: "negate", ast.Not: "logicalNot", ast.Invert: "invert"}


def parse(text):
    """The module's tree, or PxlError."""
    if text.startswith('R"('):  # pxviews is shipped inside a C++ raw string
        text = text[3:].rstrip().removesuffix(')"')
    try:
        tree = ast.parse(text)
    except SyntaxError:
        try:
            tree = ast.parse(repair_commas(text))
        except (SyntaxError, tokenize.TokenError) as error:
            raise PxlError(f"syntax: {error}") from error
    if not tree.body:
        raise PxlError("query should not be empty")
    return tree


def repair_commas(text):
    """Inserts one missing comma before, or drops one doubled comma in, a call's keywords."""
    lines = text.splitlines(keepends=True)
    edits = []
    stack = []  # [is a call, repaired already]
    previous = before = None
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (tokenize.COMMENT, tokenize.NL)
    ]
    for index, token in enumerate(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if token.string in "([{" and token.type == tokenize.OP:
            stack.append([token.string == "(" and _ends_operand(previous) and
                          not (before and before.string == "def"), False])
        elif token.string in _ENDS and token.type == tokenize.OP and stack:
            stack.pop()
        elif stack and stack[-1][0] and not stack[-1][1]:
            keyword_next = token.type == tokenize.NAME and following and following.string == "="
            if keyword_next and _ends_operand(previous):
                edits.append((previous.end, True))
                stack[-1][1] = True
            elif token.string == "," and previous.string == ",":
                edits.append((token.start, False))
                stack[-1][1] = True
        before, previous = previous, token
    for (row, column), insert in reversed(edits):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + ("," + line[column:] if insert else line[column + 1:])
    return "".join(lines)


def _ends_operand(token):
    if token is None:
        return False
    if token.type in (tokenize.NUMBER, tokenize.STRING):
        return True
    if token.type == tokenize.NAME:
        return not keyword.iskeyword(token.string) or token.string in ("None", "True", "False")
    return token.string in _ENDS


def operator_function(node):
    """Name of the function behind an operator node, or PxlError."""
    if isinstance(node, ast.BinOp):
        table, operator = _BINARY, node.op
    elif isinstance(node, ast.UnaryOp):
        table, operator = _UNARY, node.op
    elif isinstance(node, ast.BoolOp):
        if len(node.values) != 2:
            raise PxlError("expected two arguments to a boolean operator")
        return "logicalAnd" if isinstance(node.op, ast.And) else "logicalOr"
    else:
        if len(node.ops) != 1:
            raise PxlError("only expected one argument to the right of a comparison")
        table, operator = _COMPARE, node.ops[0]
    if type(operator) not in table:
        raise PxlError(f"operator {type(operator).__name__} not handled")
    return table[type(operator)]
