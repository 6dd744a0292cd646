"""Judges the JSON Schema of the configuration with a validator that is not ours: the schema itself, the files of the repository,
and broken files, about which the program must agree.

    schema.py PROGRAM SCHEMA FOLDER-OF-FILES
"""

import json
import pathlib
import subprocess
import sys
import tomllib

import jsonschema_rs

# Each is wrong in one way.
BROKEN = [
    '[upstream]\nfrist_poll_ms = 5\n',
    '[sever]\nlisten = "x"\n',
    'server = 5\n',
    '[server]\nweb = "perhaps"\n',
    '[server]\nweb = true\n',
    '[server]\nhosts = "a.test"\n',
    '[server]\nhosts = [5]\n',
    '[server]\nheaders_max = 0\n',
    '[cache]\nttl_s = -1\n',
    '[cache]\nttl_s = 1.5\n',
    '[cache]\nttl_s = "5"\n',
    '[limits]\nusd_per_day = 1e10\n',
    '[upstream]\ninputs = ["inline"]\n',
    '[models]\naliases = ["x"]\n',
    '[models.aliases]\nx = 5\n',
    '[[clients]]\nname = "a"\n',
    '[[clients]]\nname = "a"\nkey_digest = 5\n',
    '[[upstream.accounts]]\nsubmits_per_minute = 5\n',
    '[[upstream.accounts]]\nname = "one"\nsubmits_per_minute = 0\n',
]
# Each is a whole file.
VALID = [
    '',
    '[limits]\nusd_per_day = 2\nusd_per_month = 2.5\n',
    '[server]\nhosts = ["a.test", "*.b.test"]\n[models.aliases]\n"x" = "gpt-image-2"\n',
]


def row(what, judge, verdict):
    print(f'{what:<34} {judge:<28} {verdict}')


def main():
    program, schema_file, folder = sys.argv[1:]
    schema = json.loads(pathlib.Path(schema_file).read_text(encoding='utf-8'))
    judge = 'jsonschema-rs ' + getattr(jsonschema_rs, '__version__', '')
    jsonschema_rs.meta.validate(schema)
    keys = sum(len(section.get('properties', {})) for section in schema['properties'].values())
    row(f'schema of {keys} keys', judge, 'is a schema (2020-12)')
    validator = jsonschema_rs.validator_for(schema)

    for name in ('default.toml', 'example.toml'):
        document = tomllib.loads(pathlib.Path(folder, name).read_text(encoding='utf-8'))
        errors = [error.message for error in validator.iter_errors(document)]
        if errors:
            sys.exit(f'schema.py: config/{name} does not fit: {errors[0]}')
        row(f'config/{name}', judge, 'fits')

    file = pathlib.Path('file.toml')
    sections = [name for name, section in schema['properties'].items() if section['type'] == 'object']
    broken = BROKEN + [f'[{name}]\nno_such_key = 5\n' for name in sections]
    for texts, fits in ((VALID, True), (broken, False)):
        for text in texts:
            file.write_text(text, encoding='utf-8')
            checked = subprocess.run([program, 'config', 'check', str(file)], env={}, capture_output=True, text=True, check=False)
            if validator.is_valid(tomllib.loads(text)) != fits:
                sys.exit(f'schema.py: the schema {"refuses" if fits else "accepts"} {text!r}')
            if checked.returncode != (0 if fits else 64):
                sys.exit(f'schema.py: config check exits with {checked.returncode} for {text!r}: {checked.stderr}')
    row(f'{len(broken)} broken files', judge, 'refused, also by config check')
    row(f'{len(VALID)} valid files', judge, 'accepted, also by config check')


if __name__ == '__main__':
    main()
