"""What pages are made of: colours, formats, charts, tables, cards, forms. Charts are pure functions from data to figures."""
