"""Symbolic evaluation of a PxL script: names, scopes, inlined functions, frames.

`Script(text, ...)` runs the module body; `displayed()` and `call_function()` give the output
frames. Modules and their members are `modules`.
"""

import ast

from . import frames, syntax
from .modules import (Builtin, DataFrame, Groups, Module, TypeObject, UserFunction, literal_of,
                      make_modules, plain)
from .exprs import Call, Cast, ColumnRef, Literal, Metadata
from .functions import SCALARS
from .values import PxlError

_TYPES = {"str": "S", "int": "I", "float": "F", "bool": "B", "list": None}
_METHODS = {"merge", "agg", "drop", "head", "filter", "groupby", "append", "rolling", "stream",
            "map"}


class Returned(Exception):
    def __init__(self, value):
        super().__init__()
        self.value = value


class Scope:
    def __init__(self, parent=None):
        self.names, self.parent = {}, parent

    def find(self, name):
        scope = self
        while scope:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        raise PxlError(f"name '{name}' is not defined")


class Script:
    """One compile of a script at one `now`."""

    def __init__(self, text, now_ns, library=None, trace_tables=None):
        self.now_ns = now_ns
        self.outputs = []  # (name, frame) of px.display and px.debug
        self.execs_functions = False
        self.tables = {}  # declared by pxtrace
        self.trace_tables = trace_tables or {}
        self.library = library
        self.module_scope = Scope(_globals())
        self.modules = make_modules(self)
        self._run_body(syntax.parse(text).body, self.module_scope, top=True)

    def load_library(self):
        """The pxviews module, compiled in its own scope."""
        if self.library is None:
            raise PxlError("ModuleNotFoundError: no module named 'pxviews'")
        scope = Scope(_globals())
        self._run_body(syntax.parse(self.library).body, scope, top=True)
        return Module("pxviews", scope.names)

    def call_function(self, name, arguments):
        """Frames of an entry function called with argument texts."""
        function = self.module_scope.names.get(name)
        if not isinstance(function, UserFunction):
            raise PxlError(f"function to execute, '{name}', not found")
        given = {}
        for parameter in function.node.args.args:
            if parameter.annotation is None:
                raise PxlError("arg type annotation required")
            if parameter.arg not in arguments:
                raise PxlError(f"missing required argument '{parameter.arg}'")
            kind = self.evaluate(parameter.annotation, function.scope)
            given[parameter.arg] = self._argument(kind, arguments[parameter.arg])
        extra = set(arguments) - set(given)
        if extra:
            raise PxlError(f"function '{name}' does not have an argument called {extra}")
        result = function.call(self, [], given)
        if isinstance(result, DataFrame):
            return result.frame
        if isinstance(result, (list, tuple)) and all(isinstance(r, DataFrame) for r in result):
            return [item.frame for item in result]
        raise PxlError(f"function '{name}' should return a DataFrame")

    def _argument(self, kind, text):
        if not isinstance(kind, TypeObject):
            raise PxlError("not a type annotation")
        try:
            if kind.kind == "S":
                return Literal("S", text.encode())
            if kind.kind in ("I", "T"):
                return Literal(kind.kind, int(text))
            if kind.kind == "F":
                return Literal("F", float(text))
            if kind.kind == "B":
                words = {"true": True, "t": True, "yes": True, "y": True, "1": True,
                         "false": False, "f": False, "no": False, "n": False, "0": False}
                return Literal("B", words[text.lower()])
        except (ValueError, KeyError) as error:
            raise PxlError(f"failed to parse arg with value '{text}'") from error
        return self.evaluate(ast.parse(text, mode="eval").body, self.module_scope)

    # Statements

    def _run_body(self, body, scope, top=False):
        for index, statement in enumerate(body):
            self._run(statement, scope, index == 0, top)

    def _run(self, node, scope, first, top):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node, scope)
        elif isinstance(node, ast.Expr):
            docstring = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            if docstring and not first:
                raise PxlError("doc strings are only allowed at the start")
            self.evaluate(node.value, scope)
        elif isinstance(node, ast.Assign):
            if len(node.targets) != 1:
                raise PxlError("we only support single target assignment")
            self._assign(node.targets[0], node.value, scope)
        elif isinstance(node, ast.FunctionDef):
            scope.names[node.name] = self._define(node, scope)
        elif isinstance(node, ast.Return):
            if top:
                raise PxlError("'return' outside function")
            raise Returned(self.evaluate(node.value, scope) if node.value else None)
        else:
            raise PxlError(f"can't parse statement of type {type(node).__name__}")

    def _import(self, node, scope):
        if isinstance(node, ast.Import):
            for alias in node.names:
                scope.names[alias.asname or alias.name] = self._module(alias.name)
            return
        module = self._module(node.module)
        for alias in node.names:
            scope.names[alias.asname or alias.name] = module.get(alias.name)

    def _module(self, name):
        if name == "pxviews":
            return self.load_library()
        if name not in self.modules:
            raise PxlError(f"ModuleNotFoundError: no module named '{name}'")
        return self.modules[name]

    def _define(self, node, scope):
        arguments = node.args
        if (arguments.defaults or arguments.kwonlyargs or arguments.vararg or arguments.kwarg
                or arguments.posonlyargs or node.returns or len(node.decorator_list) > 1):
            raise PxlError("default values and variable arguments are not supported")
        function = UserFunction(node, scope)
        for decorator in node.decorator_list:
            return self._call_value(self.evaluate(decorator, scope), [function], {})
        return function

    def _assign(self, target, value_node, scope):
        if isinstance(target, ast.Name):
            scope.names[target.id] = self.evaluate(value_node, scope)
            return
        if isinstance(target, ast.Attribute):
            name = target.attr
        elif isinstance(target, ast.Subscript):
            name = plain(self.evaluate(target.slice, scope), "S").decode()
        else:
            raise PxlError("assignment target must be a Name or Subscript")
        owner = self.evaluate(target.value, scope)
        value = self.evaluate(value_node, scope)
        if isinstance(owner, DataFrame):
            if not isinstance(target.value, ast.Name):
                raise PxlError("can only assign to Dataframe by subscript from Name")
            expression = _expression(value)
            _check_frame_names(expression, target.value.id)
            frame = frames.assign(owner.frame, name, expression)
            scope.names[target.value.id] = DataFrame(frame, target.value.id)
        elif isinstance(owner, Module) and isinstance(target, ast.Attribute):
            owner.members[name] = value
        else:
            raise PxlError(f"cannot assign attribute {name}")

    # Expressions

    def evaluate(self, node, scope):
        if isinstance(node, ast.Constant):
            return literal_of(node.value)
        if isinstance(node, ast.Name):
            value = scope.find(node.id)
            return DataFrame(value.frame, node.id) if isinstance(value, DataFrame) else value
        if isinstance(node, (ast.List, ast.Tuple)):
            items = [self.evaluate(item, scope) for item in node.elts]
            return items if isinstance(node, ast.List) else tuple(items)
        if isinstance(node, ast.Dict):
            if any(key is None for key in node.keys):
                raise PxlError("** is not supported")
            return {plain(self.evaluate(k, scope), "S"): self.evaluate(v, scope)
                    for k, v in zip(node.keys, node.values)}
        if isinstance(node, ast.Attribute):
            return self._attribute(self.evaluate(node.value, scope), node.attr)
        if isinstance(node, ast.Subscript):
            return self._subscript(self.evaluate(node.value, scope), node.slice, scope)
        if isinstance(node, ast.Call):
            return self._call(node, scope)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd):
            return self.evaluate(node.operand, scope)
        if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare)):
            return self._operator(node, scope)
        raise PxlError(f"can't parse expression of type {type(node).__name__}")

    def _operator(self, node, scope):
        name = syntax.operator_function(node)
        if isinstance(node, ast.BinOp):
            operands = [node.left, node.right]
        elif isinstance(node, ast.UnaryOp):
            operands = [node.operand]
        elif isinstance(node, ast.BoolOp):
            operands = node.values
        else:
            operands = [node.left, *node.comparators]
        return apply_operator(name, [_expression(self.evaluate(o, scope)) for o in operands])

    def _attribute(self, owner, name):
        if isinstance(owner, DataFrame):
            if name == "ctx":
                return _Context(owner.name)
            if name in _METHODS:
                return Builtin(name, lambda script, *a, **k: _method(owner, name, a, k))
            return ColumnRef(name)
        if isinstance(owner, Module):
            return owner.get(name)
        if isinstance(owner, Groups) and name == "agg":
            return Builtin("agg", lambda script, *a, **k: _agg(owner.frame, owner.by, a, k))
        raise PxlError(f"object has no attribute '{name}'")

    def _subscript(self, owner, index_node, scope):
        if isinstance(index_node, ast.Slice):
            raise PxlError("only index slices are supported")
        index = self.evaluate(index_node, scope)
        if isinstance(owner, _Context):
            return Metadata(plain(index, "S").decode(), owner.frame_name)
        if isinstance(owner, (list, tuple)):
            position = plain(index, "I")
            if not -len(owner) <= position < len(owner):
                raise PxlError("index out of range")
            return owner[position]
        if not isinstance(owner, DataFrame):
            raise PxlError("object is not subscriptable")
        if isinstance(index, Literal) and index.kind == "S":
            return ColumnRef(index.value.decode(), owner.name)
        if isinstance(index, (list, tuple)):
            names = [plain(item, "S").decode() for item in index]
            return DataFrame(frames.keep(owner.frame, names), owner.name)
        return DataFrame(frames.filter_rows(owner.frame, _expression(index)), owner.name)

    def _call(self, node, scope):
        function = self.evaluate(node.func, scope)
        if any(isinstance(arg, ast.Starred) for arg in node.args):
            raise PxlError("variable length args are not supported")
        positional = [self.evaluate(arg, scope) for arg in node.args]
        named = {}
        for item in node.keywords:
            if item.arg is None or item.arg in named:
                raise PxlError("bad keyword argument")
            named[item.arg] = self.evaluate(item.value, scope)
        return self._call_value(function, positional, named)

    def _call_value(self, function, positional, named):
        if isinstance(function, UserFunction):
            return function.call(self, positional, named)
        if isinstance(function, Builtin):
            try:
                return function.function(self, *positional, **named)
            except TypeError as error:
                if "argument" not in str(error):
                    raise
                raise PxlError(f"{function.name}: {error}") from error
        if isinstance(function, TypeObject):
            if len(positional) != 1 or named or not function.castable:
                raise PxlError("a cast takes one expression")
            return _cast(function, positional[0])
        raise PxlError("object is not callable")

    def run_function(self, function, positional, named):
        """Inlines a user function."""
        names = [parameter.arg for parameter in function.node.args.args]
        if len(positional) > len(names) or set(named) - set(names):
            raise PxlError(f"{function.node.name}() takes {len(names)} arguments")
        values = dict(zip(names, positional))
        if values.keys() & named.keys():
            raise PxlError("argument given twice")
        values.update(named)
        if values.keys() != set(names):
            raise PxlError(f"{function.node.name}() misses required arguments")
        scope = Scope(function.scope)
        for parameter in function.node.args.args:
            value = values[parameter.arg]
            if isinstance(value, DataFrame):
                value = DataFrame(value.frame, parameter.arg)
            if parameter.annotation is not None:
                kind = self.evaluate(parameter.annotation, function.scope)
                if isinstance(kind, TypeObject) and kind.kind and isinstance(value, Literal):
                    value = _cast(kind, value)
            scope.names[parameter.arg] = value
        try:
            self._run_body(function.node.body, scope)
        except Returned as returned:
            return returned.value
        return None


class _Context:
    def __init__(self, frame_name):
        self.frame_name = frame_name


def _globals():
    scope = Scope()
    scope.names.update({"None": None, "True": Literal("B", True), "False": Literal("B", False)})
    scope.names.update({name: TypeObject(name, kind, False) for name, kind in _TYPES.items()})
    return scope


def apply_operator(name, operands):
    """Folds literals with the overload that fits, otherwise builds a row expression."""
    if not all(isinstance(operand, Literal) for operand in operands):
        return Call(name, tuple(operands))
    overloads = SCALARS.get(name, {})
    overload = overloads.get("".join(operand.kind for operand in operands))
    if overload is None:
        raise PxlError(f"could not find UDF '{name}' for literals")
    value = overload.function(*(operand.value for operand in operands))
    factors = [operand.now_factor for operand in operands]
    factor = 0
    if any(factors):
        factor = {"add": lambda: factors[0] + factors[1],
                  "subtract": lambda: factors[0] - factors[1],
                  "negate": lambda: -factors[0],
                  "multiply": lambda: _scaled(operands)}.get(name, lambda: 2)()
    return Literal(overload.result, value, factor)


def _scaled(operands):
    left, right = operands
    if left.now_factor and right.now_factor:
        return 2
    return left.now_factor * right.value if left.now_factor else right.now_factor * left.value


def _cast(kind, value):
    expression = _expression(value)
    if isinstance(expression, Literal):
        if expression.kind != kind.kind:
            raise PxlError(f"cannot cast to '{kind.name}'")
        return expression
    return Cast(kind.name, kind.kind, expression)


def _expression(value):
    if isinstance(value, (Literal, ColumnRef, Call, Cast, Metadata)):
        return value
    raise PxlError(f"expected an expression, received {type(value).__name__}")


def _check_frame_names(expression, target):
    """A subscript of another frame may not stand in an assignment."""
    name = getattr(expression, "frame_name", None)
    if name is not None and name != target:
        raise PxlError(f"name '{name}' is not available in this context")
    for child in getattr(expression, "args", ()) or ():
        _check_frame_names(child, target)
    if isinstance(expression, Cast):
        _check_frame_names(expression.of, target)


def _names(value):
    if isinstance(value, (list, tuple)):
        return [plain(item, "S").decode() for item in value]
    return [plain(value, "S").decode()]


def _method(owner, name, positional, named):
    handler = {"drop": _drop, "head": _head, "filter": _filter, "groupby": _groupby,
               "append": _append, "merge": _merge, "agg": _agg_all}.get(name)
    if handler is None:
        raise PxlError(f"dataframe method '{name}' cannot be used")
    result = handler(owner.frame, *positional, **named)
    return DataFrame(result, owner.name) if isinstance(result, frames.Frame) else result


def _drop(frame, columns):
    return frames.drop(frame, _names(columns))


def _head(frame, n=Literal("I", 5), _pem_only=None):
    return frames.head(frame, plain(n, "I"))


def _filter(frame, cond):
    return frames.filter_rows(frame, _expression(cond))


def _groupby(frame, by):
    names = _names(by)
    frame.require(names)
    return Groups(frame, names)


def _agg_all(frame, *positional, **named):
    return _agg(frame, [], positional, named).frame


def _agg(frame, by, positional, named):
    if positional:
        raise PxlError("agg takes keyword arguments only")
    outputs = []
    for name, value in named.items():
        if not isinstance(value, tuple) or len(value) < 2:
            raise PxlError(f"expected tuple for {name}")
        function = value[-1]
        if not isinstance(function, Builtin) or not function.aggregate:
            raise PxlError("expected second tuple argument to be type Func")
        outputs.append((name, function.name, [plain(c, "S").decode() for c in value[:-1]]))
    return DataFrame(frames.aggregate(frame, by, outputs))


def _append(frame, objs):
    others = objs if isinstance(objs, (list, tuple)) else [objs]
    if not all(isinstance(other, DataFrame) for other in others):
        raise PxlError("append takes dataframes")
    return frames.append(frame, [other.frame for other in others])


def _merge(frame, right, how, left_on, right_on, suffixes=None):
    if not isinstance(right, DataFrame):
        raise PxlError("merge takes a dataframe")
    endings = _names(suffixes) if suffixes is not None else ["_x", "_y"]
    if len(endings) != 2:
        raise PxlError("'suffixes' must be a list with 2 strings")
    return frames.merge(frame, right.frame, plain(how, "S").decode(), _names(left_on),
                        _names(right_on), endings)

