"""What a customer gets with what was bought."""

from shop.money import written


def lines(cart):
    """One line for each thing that was bought."""
    return [f"{count} x {name:<20} {written(price * count):>10}" for name, price, count in cart.lines]


def pages(text, height):
    """Lines of text as pages of at most so many lines."""
    return [text[at : at + height] for at in range(0, len(text) - height + 1, height)]
