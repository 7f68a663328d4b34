"""Money as whole cents."""


def cents(price):
    """The cents of a price such as "12.34". Half a cent is rounded up."""
    return round(float(price) * 100)


def written(amount):
    """Cents as a price: 1234 is "12.34"."""
    return f"{amount // 100}.{amount % 100:02}"
