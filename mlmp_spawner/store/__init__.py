"""The database of MLMP: tables, triggers, transactions, migrations."""
